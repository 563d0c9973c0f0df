-- Claims scheduled messages out of buckets that lie within the horizon, so that exactly one
-- worker's memory holds each.
--
-- KEYS  per bucket, earliest first within a lane: due, unacked, bucket
-- ARGV  session, how many messages in all (at most 1000), how many bytes, first sequence number,
--       then two per bucket: its lane (from 0), where it begins (ms)
-- Returns { 1 when something was left behind or else 0, { key, error, ... }, then per bucket that
-- gave something as claim.lua }. The earliest of a bucket come first, unless it holds so much (BIG
-- messages, or many times the room) that sorting for each claim would cost more than it gives: the
-- worker's heap sorts too.
local session, left, room = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local seq = tonumber(ARGV[4])
local BIG, PORTION = 2000, 64
local errors, out = {}, { 0, 0 }
local count, bytes = 0, 0

-- The names in a bucket that are to be claimed, in order, and whether those are all.
local function names(bucket)
  local size = redis.call('HLEN', bucket)
  if size <= left then return redis.call('HKEYS', bucket), true end
  if size > BIG then return redis.call('HRANDFIELD', bucket, left), false end
  local ids, total = redis.call('HKEYS', bucket), 0
  for k = 1, size do total = total + redis.call('HSTRLEN', bucket, ids[k]) end
  if total <= 8 * room then
    local values, order = redis.call('HMGET', bucket, unpack(ids)), {}
    for k = 1, size do order[k] = k end
    table.sort(order, function(a, b)
      return string.sub(values[a], 1, 3) < string.sub(values[b], 1, 3)
    end)
    for k = 1, size do order[k] = ids[order[k]] end
    ids = order
  end
  return { unpack(ids, 1, left) }, false
end

-- Takes messages out of a bucket, within the room for bytes, and whether it is empty now.
local function take(bucket)
  local ids, all = names(bucket)
  local found, taken = {}, 0
  while taken < #ids do
    local last = math.min(taken + PORTION, #ids)
    local some = redis.call('HMGET', bucket, unpack(ids, taken + 1, last))
    for k = 1, #some do
      if count > 0 and bytes + #some[k] > room then
        if taken > 0 then redis.call('HDEL', bucket, unpack(ids, 1, taken)) end
        return found, false
      end
      count, bytes, taken = count + 1, bytes + #some[k], taken + 1
      found[taken] = string.sub(some[k], 4)
    end
  end
  if all then
    redis.call('DEL', bucket)
  else
    redis.call('HDEL', bucket, unpack(ids))
  end
  return found, all
end

-- Whether a key has its type, or none; otherwise it is named.
local function fits(key, expected)
  local kind = redis.call('TYPE', key).ok
  if kind == expected or kind == 'none' then return true end
  errors[#errors + 1] = key
  errors[#errors + 1] = 'WRONGTYPE it is a ' .. kind
  return false
end

for i = 1, #KEYS, 3 do
  if left == 0 or (count > 0 and bytes >= room) then
    out[1] = 1
    break
  end
  local due, unacked, bucket = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local lane, begin = tonumber(ARGV[(i + 2) / 3 * 2 + 3]), ARGV[(i + 2) / 3 * 2 + 4]
  if fits(unacked, 'hash') and fits(bucket, 'hash') then
    if redis.call('HGET', unacked, '') ~= session then
      return redis.error_reply('FENCED the lease of this epoch lapsed')
    end
    local found, all = take(bucket)
    local record = {}
    for k = 1, #found do
      record[2 * k - 1], record[2 * k] = seq, found[k]
      seq = seq + 1
    end
    if #found > 0 then
      redis.call('HSET', unacked, unpack(record))
      left = left - #found
      out[#out + 1] = { lane, found }
    end
    if all then
      redis.pcall('ZREM', due, begin)
    else
      out[1] = 1
    end
  end
end
out[2] = errors
return out
