-- Puts messages of a lost epoch back to the head, as suspects; what was marked as begun is counted.
--
-- KEYS  redelivered, unacked
-- ARGV  sequence numbers, newest first
-- Returns how many went back. Acts only on messages that are still there, so two workers that sweep
-- at once move and count each message once. A suspect carries its count in front, as settle.lua
-- says.
local back = 0
redis.call('HDEL', KEYS[2], '-') -- see register.lua
for _, seq in ipairs(ARGV) do
  local raw = redis.call('HGET', KEYS[2], seq)
  if raw then
    local count = 0
    local kind, before, start = string.match(raw, '^%zt([bc])(%d%d?%d?%d?%d?%d?%d?%d?%d?)\n()')
    if kind then
      count = math.min(before + (kind == 'b' and 1 or 0), 999999999)
      raw = string.sub(raw, start)
    end
    redis.call('RPUSH', KEYS[1], '\0tc' .. count .. '\n' .. raw)
    redis.call('HDEL', KEYS[2], seq)
    back = back + 1
  end
end
return back
