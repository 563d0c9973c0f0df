-- Takes the lease of an epoch away, unless it was renewed since it was looked at: from here on it
-- cannot be renewed.
--
-- KEYS  leases, queues of the epoch
-- ARGV  epoch, the lease as it was seen
-- Returns the queues whose lanes are to be recovered, or nil. The lease stays, as 0, until that is
-- done, whoever does it.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then return false end
redis.call('ZREM', KEYS[1], '') -- see register.lua
redis.call('ZADD', KEYS[1], 0, ARGV[1])
return redis.call('SMEMBERS', KEYS[2])
