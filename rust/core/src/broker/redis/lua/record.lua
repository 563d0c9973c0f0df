-- Records a message that a wait moved as unacked under its number.
--
-- KEYS  moved, unacked, list ARGV  sequence number, message By value, not by place: after a broken
-- connection the list of moved ones may hold a message that no reply announced. When the lane was
-- taken away the message goes back instead, because nobody looks there any more.
if redis.call('TYPE', KEYS[1]).ok ~= 'list' or redis.call('LREM', KEYS[1], -1, ARGV[2]) == 0 then
  return 0
end
if not redis.call('HGET', KEYS[2], '') then
  redis.call('RPUSH', KEYS[3], ARGV[2])
  return redis.error_reply('FENCED the lease of this epoch lapsed')
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
