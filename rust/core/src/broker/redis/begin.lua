-- Marks held messages as begun: should the lease lapse, they are counted.
--
-- KEYS  held
-- ARGV  sequence numbers
-- Those that are not held any more are passed over. The mark is the `b` of the count in front, as settle.lua says.
for _, seq in ipairs(ARGV) do
  local value = redis.call('HGET', KEYS[1], seq)
  if value then
    local marked = string.find(value, '^%zt[bc]%d+\n')
    value = marked and '\0tb' .. string.sub(value, 4) or '\0tb0\n' .. value
    redis.call('HSET', KEYS[1], seq, value)
  end
end
return redis.status_reply('OK')
