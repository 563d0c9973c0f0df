-- Claims scheduled messages that come due within the horizon, so that exactly one worker's memory holds each.
--
-- KEYS  per lane: due, later, held, leases
-- ARGV  epoch, how many in all (at most 1000), first sequence number, horizon in ms
-- Returns { ms until the next message left behind enters the horizon, or -1; then per lane that gave something, as claim.lua }.
local epoch, left, seq, horizon = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local edge = time[1] * 1000 + math.floor(time[2] / 1000) + horizon
local out = { -1 }

local function claim(due, later, held, lane)
  local members = redis.call('ZRANGEBYSCORE', due, '-inf', edge, 'LIMIT', 0, left)
  if #members == 0 then return end
  local raws = redis.call('HMGET', later, unpack(members))
  redis.call('ZREM', due, unpack(members))
  redis.call('HDEL', later, unpack(members))
  local record, found = {}, {}
  for k = 1, #raws do
    if raws[k] then
      found[#found + 1] = raws[k]
      record[#record + 1] = seq
      record[#record + 1] = raws[k]
      seq = seq + 1
    end
  end
  if #found > 0 then
    redis.call('HSET', held, unpack(record))
    left = left - #found
    out[#out + 1] = { lane, found }
  end
end

for i = 1, #KEYS, 4 do
  local lease = redis.call('ZSCORE', KEYS[i + 3], epoch)
  if not lease or tonumber(lease) <= 0 then
    return redis.error_reply('FENCED the lease of epoch `' .. epoch .. '` lapsed')
  end
  if left > 0 then claim(KEYS[i], KEYS[i + 1], KEYS[i + 2], (i - 1) / 4) end
  local next = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
  if next[2] then
    local wait = math.max(0, tonumber(next[2]) - edge)
    if out[1] < 0 or wait < out[1] then out[1] = wait end
  end
end
return out
