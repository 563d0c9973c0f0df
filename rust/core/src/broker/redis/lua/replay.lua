-- Puts dead letters back to the tail of their list.
--
-- KEYS  list, dead ARGV  keys of the dead letters, oldest first Returns how many there were. A
-- record is `at count idlen reasonlen\n`, the id, the reason, the message.
local n = 0
redis.call('HDEL', KEYS[2], '-') -- see register.lua
for i = 1, #ARGV do
  local record = redis.call('HGET', KEYS[2], ARGV[i])
  if record then
    local eol = string.find(record, '\n', 1, true)
    local id, reason = string.match(string.sub(record, 1, eol - 1), '^%d+ %d+ (%d+) (%d+)$')
    redis.call('LPUSH', KEYS[1], string.sub(record, eol + 1 + id + reason))
    redis.call('HDEL', KEYS[2], ARGV[i])
    n = n + 1
  end
end
return n
