-- Drops what is ready in one lane, and some buckets of what is scheduled there.
--
-- KEYS  list, redelivered, overdue, due, then the buckets
-- ARGV  where each bucket begins
-- Returns how many messages that were.
local n = 0
for i = 1, 3 do n = n + redis.call('LLEN', KEYS[i]) end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
for i = 5, #KEYS do
  n = n + redis.call('HLEN', KEYS[i])
  redis.call('UNLINK', KEYS[i])
  redis.call('ZREM', KEYS[4], ARGV[i - 4])
end
return n
