-- Claims ready messages: each leaves its list and is recorded as unacked in the same step.
--
-- KEYS  per lane, in the order of service: list, redelivered, overdue, unacked
-- ARGV  session, how many messages in all (at most 1000), how many of these out of `redelivered`,
--       how many bytes, first sequence number, 1 when the lanes of a priority share what is claimed
--       or 0 when the first has all it can give, then per lane its priority
-- Returns { { lanes whose list and overdue hold nothing more }, { lanes whose redelivered do not },
-- { key, error, ... }, then { lane, { message, ... } } for each time a lane gave something }; lanes
-- count from 0, messages have consecutive numbers in this order. What there is no more room for in
-- `redelivered` holds nothing else up. The first message goes whatever its size. A key that is of another type is named with
-- its error, and the rest is claimed. FENCED when the session has ended or its lease was taken
-- away; what other lanes gave by then is recovered with all else the epoch has.
local session, left, suspects = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local room = tonumber(ARGV[4])
local share = ARGV[6] == '1'
local empty, cleared, errors, out = {}, {}, {}, { 0, 0, 0 }
local count, bytes, full = 0, 0, false
-- Messages per pop: what was popped beyond the room for bytes goes back.
local PORTION = 64
-- The next sequence number in two parts: a number that is handed to a command is formatted as a
-- fraction, which takes longer than all else that is done for a message here.
local DIGITS = { [0] = '0', '1', '2', '3', '4', '5', '6', '7', '8', '9' }
local tens, ones = math.floor(ARGV[5] / 10), ARGV[5] % 10
local function front() return tens > 0 and string.format('%.0f', tens) or '' end
local prefix = front()

-- Pops up to `want` messages of a lane into `record`, which ends at `size`. Returns where it ends
-- then, and whether the list has no more.
local function pop(lane, list, want, record, size)
  while want > 0 and not full do
    local n = count == 0 and 2 or math.floor((room - bytes) * count / (bytes + 1))
    n = math.min(math.max(n, 1), PORTION, want)
    local some = redis.pcall('RPOP', list, n)
    if not some then return size, true end
    if some.err then
      errors[#errors + 1] = list
      errors[#errors + 1] = some.err
      return size, true
    end
    local got, digit, head, sum = #some, ones, prefix, bytes
    for k = 1, got do
      local message = some[k]
      sum = sum + #message
      if sum > room and count + k > 1 then
        full = true
        for back = got, k, -1 do
          redis.call('RPUSH', list, some[back])
          some[back] = nil
        end
        sum = sum - #message
        break
      end
      record[size + 1], record[size + 2] = head .. DIGITS[digit], message
      size, digit = size + 2, digit + 1
      if digit == 10 then
        tens, digit = tens + 1, 0
        head = front()
      end
    end
    ones, prefix, bytes = digit, head, sum
    if #some > 0 then out[#out + 1] = { lane, some } end
    count, want = count + #some, want - #some
    if full then return size, false end
    if got < n then return size, true end
  end
  return size, false
end

-- Claims up to `want` messages of a lane; an error when it must not.
local function claim(lane, want)
  local list, redelivered, overdue, unacked = unpack(KEYS, 4 * lane + 1, 4 * lane + 4)
  local holder = redis.pcall('HGET', unacked, '')
  if type(holder) == 'table' then
    errors[#errors + 1] = unacked
    errors[#errors + 1] = holder.err
    empty[lane], cleared[lane] = true, true
    return
  end
  if holder ~= session then
    return redis.error_reply('FENCED the lease of this epoch lapsed')
  end
  local record, size, none = {}, 0, false
  if suspects > 0 then
    size, none = pop(lane, redelivered, math.min(want, suspects), record, 0)
    cleared[lane] = none
    suspects = suspects - size / 2
  end
  size, none = pop(lane, overdue, want - size / 2, record, size)
  if none then
    size, none = pop(lane, list, want - size / 2, record, size)
  end
  empty[lane] = none
  if size > 0 then
    redis.call('HSET', unacked, unpack(record))
    left = left - size / 2
  end
end

local lane, lanes = 0, #KEYS / 4
while lane < lanes do
  local last = lane
  while ARGV[8 + last] == ARGV[7 + lane] do last = last + 1 end
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
local function names(set)
  local all = {}
  for i = 0, lanes - 1 do
    if set[i] then all[#all + 1] = i end
  end
  return all
end
out[1], out[2], out[3] = names(empty), names(cleared), errors
return out
