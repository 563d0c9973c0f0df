-- Takes, or renews, the lease of an epoch. A lease is the moment of its last renewal: whoever sees
-- it unmoved for too long takes the epoch for lost, by a clock of his own.
--
-- KEYS  leases, queues of the epoch, queues of everybody
-- ARGV  epoch, `new` or `renew`, then the names of its queues that are new
-- Returns OK, or FENCED when a lease that is to be renewed was taken away.
local epoch, mode = ARGV[1], ARGV[2]
local last = tonumber(redis.call('ZSCORE', KEYS[1], epoch) or 0)
if mode == 'renew' and last <= 0 then
  return redis.error_reply('FENCED the lease of epoch `' .. epoch .. '` lapsed')
end
-- Changes nothing. Where memory is full, Redis lets a script grow only after a write of a kind that
-- does not.
redis.call('ZREM', KEYS[1], '')
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), epoch)
if ARGV[3] then
  redis.call('SADD', KEYS[2], unpack(ARGV, 3))
  redis.call('SADD', KEYS[3], unpack(ARGV, 3))
end
return redis.status_reply('OK')
