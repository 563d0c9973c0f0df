-- Puts messages of a dead epoch back to the head, counted, or parks them.
--
-- KEYS  again, held, dead
-- ARGV  epoch, max deliveries, reason for parking, then the sequence numbers, newest first
-- Acts only on messages that are still there, so two workers that sweep at once move and count each message once.
-- Returns { put back, parked }. A counted message carries its count in front, as settle.lua says.
local epoch, max, reason = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local back, parked = 0, 0
local time = redis.call('TIME')
local at = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
for i = 4, #ARGV do
  local seq = ARGV[i]
  local raw = redis.call('HGET', KEYS[2], seq)
  if raw then
    redis.call('HDEL', KEYS[2], seq)
    local count = 1
    local before, start = string.match(raw, '^%ztc(%d+)\n()')
    if before then
      count, raw = before + 1, string.sub(raw, start)
    end
    if count >= max then
      local record = string.format('%s %d 0 %d\n', at, count, #reason) .. reason .. raw
      redis.call('HSET', KEYS[3], at .. '-' .. epoch .. '-' .. string.format('%016.0f', seq), record)
      parked = parked + 1
    else
      redis.call('RPUSH', KEYS[1], '\0tc' .. count .. '\n' .. raw)
      back = back + 1
    end
  end
end
return { back, parked }
