-- Removes entries of a schedule.
--
-- KEYS  definitions, done, runs, sent, paused, revision
-- ARGV  names
-- Returns how many there were.
local removed = redis.call('HDEL', KEYS[1], unpack(ARGV))
for i = 2, 4 do redis.call('HDEL', KEYS[i], unpack(ARGV)) end
redis.call('SREM', KEYS[5], unpack(ARGV))
if removed > 0 then redis.call('INCR', KEYS[6]) end
return removed
