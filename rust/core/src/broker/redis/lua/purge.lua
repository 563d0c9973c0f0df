-- Drops what is ready in one lane, and some buckets of what is scheduled there.
--
-- KEYS  list, redelivered, due, then the buckets
-- ARGV  where each bucket begins
-- Returns how many messages that were.
local n = redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2])
redis.call('UNLINK', KEYS[1], KEYS[2])
for i = 4, #KEYS do
  n = n + redis.call('HLEN', KEYS[i])
  redis.call('UNLINK', KEYS[i])
  redis.call('ZREM', KEYS[3], ARGV[i - 3])
end
return n
