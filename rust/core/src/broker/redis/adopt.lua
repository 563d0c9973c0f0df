-- Records a message that a blocked wait moved into the inbox as held under its number.
--
-- KEYS  inbox, held, leases, list
-- ARGV  epoch, sequence number, message
-- By value, not by place: after a broken link the inbox may hold a message that no reply announced. When the lease was taken
-- away the message goes back to its list instead, because nobody looks into this inbox soon.
if redis.call('LREM', KEYS[1], -1, ARGV[3]) == 0 then return 0 end
local lease = redis.call('ZSCORE', KEYS[3], ARGV[1])
if not lease or tonumber(lease) <= 0 then
  redis.call('RPUSH', KEYS[4], ARGV[3])
  return redis.error_reply('FENCED the lease of epoch `' .. ARGV[1] .. '` lapsed')
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return 1
