-- Claims ready messages: each leaves its list and is recorded as unacked in the same step.
--
-- KEYS  per lane, in the order of service: list, redelivered, unacked ARGV  session, how many
-- messages in all (at most 1000), how many bytes, first sequence number, 1 when the lanes of a
-- priority share
--       what is claimed or 0 when the first has all it can give, then per lane its priority
-- Returns { { lanes that hold nothing more }, { key, error, ... }, then { lane, { message, ... } }
-- for each time a lane gave something }; lanes count from 0, messages have consecutive numbers in
-- this order. The first message goes whatever its size. A key that is of another type is named with
-- its error, and the rest is claimed. FENCED when the session has ended or its lease was taken
-- away; what other lanes gave by then is recovered with all else the epoch has.
local session, left, room = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local seq, share = tonumber(ARGV[4]), ARGV[5] == '1'
local empty, errors, out = {}, {}, { 0, 0 }
local count, bytes, full = 0, 0, false
-- Messages per pop: what was popped beyond the room for bytes goes back.
local PORTION = 64

-- Pops up to `want` messages into `got`; whether the list has no more.
local function pop(list, want, got)
  while want > 0 and not full do
    local n = count == 0 and 2 or math.floor((room - bytes) * count / (bytes + 1))
    n = math.min(math.max(n, 1), PORTION, want)
    local some = redis.pcall('RPOP', list, n)
    if not some then return true end
    if some.err then
      errors[#errors + 1] = list
      errors[#errors + 1] = some.err
      return true
    end
    for k = 1, #some do
      if count > 0 and bytes + #some[k] > room then
        full = true
        for back = #some, k, -1 do redis.call('RPUSH', list, some[back]) end
        return false
      end
      count, bytes = count + 1, bytes + #some[k]
      got[#got + 1] = some[k]
    end
    want = want - #some
    if #some < n then return true end
  end
  return false
end

-- Claims up to `want` messages of a lane; an error when it must not.
local function claim(lane, want)
  local unacked = KEYS[3 * lane + 3]
  local holder = redis.pcall('HGET', unacked, '')
  if type(holder) == 'table' then
    errors[#errors + 1] = unacked
    errors[#errors + 1] = holder.err
    empty[lane] = true
    return
  end
  if holder ~= session then
    return redis.error_reply('FENCED the lease of this epoch lapsed')
  end
  local got = {}
  empty[lane] = pop(KEYS[3 * lane + 2], want, got) and pop(KEYS[3 * lane + 1], want - #got, got)
  if #got > 0 then
    local record = {}
    for k = 1, #got do
      record[2 * k - 1], record[2 * k] = seq, got[k]
      seq = seq + 1
    end
    redis.call('HSET', unacked, unpack(record))
    left = left - #got
    out[#out + 1] = { lane, got }
  end
end

local lane, lanes = 0, #KEYS / 3
while lane < lanes do
  local last = lane
  while ARGV[7 + last] == ARGV[6 + lane] do last = last + 1 end
  -- A part for each first, then for each what the others left.
  for pass = (share and last > lane) and 1 or 2, 2 do
    for i = lane, last do
      if left > 0 and not full and not empty[i] then
        local fenced = claim(i, pass == 1 and math.ceil(left / (last - i + 1)) or left)
        if fenced then return fenced end
      end
    end
  end
  lane = last + 1
end
local names = {}
for i = 0, lanes - 1 do
  if empty[i] then names[#names + 1] = i end
end
out[1], out[2] = names, errors
return out
