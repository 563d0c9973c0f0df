-- Claims scheduled messages out of buckets that lie within the horizon, so that exactly one worker's memory holds each.
--
-- KEYS  per bucket, earliest first within a lane: due, held, leases, bucket
-- ARGV  epoch, how many in all (at most 1000), first sequence number, then two per bucket: its lane (from 0), where it begins (ms)
-- Returns { 1 when something was left behind or else 0; then per bucket that gave something, as claim.lua }. The earliest of a bucket come
-- first, unless it holds so many (BIG) that sorting them for each claim would cost more than it gives: the worker's heap sorts too.
local epoch, left, seq = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local BIG = 2000
local out = { 0 }

-- Takes up to `left` fields and values out of a bucket, as one flat list, and whether that was all.
local function take(bucket)
  local size = redis.call('HLEN', bucket)
  if size <= left then
    local all = redis.call('HGETALL', bucket)
    redis.call('DEL', bucket)
    return all, true
  end
  local some = {}
  if size <= BIG then
    local all, order = redis.call('HGETALL', bucket), {}
    for k = 1, size do order[k] = 2 * k end
    table.sort(order, function(a, b) return string.sub(all[a], 1, 3) < string.sub(all[b], 1, 3) end)
    for k = 1, left do
      some[2 * k - 1], some[2 * k] = all[order[k] - 1], all[order[k]]
    end
  else
    some = redis.call('HRANDFIELD', bucket, left, 'WITHVALUES')
  end
  local ids = {}
  for k = 1, #some, 2 do ids[#ids + 1] = some[k] end
  redis.call('HDEL', bucket, unpack(ids))
  return some, false
end

for i = 1, #KEYS, 4 do
  local lease = redis.call('ZSCORE', KEYS[i + 2], epoch)
  if not lease or tonumber(lease) <= 0 then
    return redis.error_reply('FENCED the lease of epoch `' .. epoch .. '` lapsed')
  end
end
for i = 1, #KEYS, 4 do
  local lane, begin = tonumber(ARGV[(i + 1) / 2 + 3]), ARGV[(i + 1) / 2 + 4]
  if left == 0 then
    out[1] = 1
    break
  end
  local some, all = take(KEYS[i + 3])
  if all then
    redis.call('ZREM', KEYS[i], begin)
  else
    out[1] = 1
  end
  local record, found = {}, {}
  for k = 2, #some, 2 do
    local raw = string.sub(some[k], 4)
    found[#found + 1] = raw
    record[#record + 1] = seq
    record[#record + 1] = raw
    seq = seq + 1
  end
  if #found > 0 then
    redis.call('HSET', KEYS[i + 1], unpack(record))
    left = left - #found
    out[#out + 1] = { lane, found }
  end
end
return out
