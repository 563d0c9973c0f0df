-- Marks unacked messages as begun: should the lease lapse, they are counted.
--
-- KEYS  unacked
-- ARGV  sequence numbers
-- Those that are not unacked any more are passed over. The mark is the `b` of the count in front,
-- as settle.lua says.
redis.call('HDEL', KEYS[1], '-') -- see register.lua
for _, seq in ipairs(ARGV) do
  local value = redis.call('HGET', KEYS[1], seq)
  if value then
    local marked = string.find(value, '^%zt[bc]%d%d?%d?%d?%d?%d?%d?%d?%d?\n')
    value = marked and '\0tb' .. string.sub(value, 4) or '\0tb0\n' .. value
    redis.call('HSET', KEYS[1], seq, value)
  end
end
return redis.status_reply('OK')
