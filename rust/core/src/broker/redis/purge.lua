-- Drops what is ready and scheduled in one lane.
--
-- KEYS  list, again, due, later
-- Returns how many messages that were.
local n = redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2]) + redis.call('ZCARD', KEYS[3])
redis.call('DEL', unpack(KEYS))
return n
