-- Claims ready messages for one worker: each leaves its list and is recorded as held in the same step.
--
-- KEYS  per lane, in the order of service: again, list, held, leases
-- ARGV  epoch, how many in all (at most 1000), first sequence number
-- Returns per list that gave something { lane (from 0), { message, ... } }; the messages have consecutive numbers in
-- this order. FENCED when the lease was taken away; what earlier lanes gave by then is recovered with all else the epoch held.
local epoch, left, seq = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local out = {}
for i = 1, #KEYS, 4 do
  local lease = redis.call('ZSCORE', KEYS[i + 3], epoch)
  if not lease or tonumber(lease) <= 0 then
    return redis.error_reply('FENCED the lease of epoch `' .. epoch .. '` lapsed')
  end
  for list = i, i + 1 do
    local found = left > 0 and redis.call('RPOP', KEYS[list], left)
    if found then
      local record = {}
      for k = 1, #found do
        record[2 * k - 1] = seq
        record[2 * k] = found[k]
        seq = seq + 1
      end
      redis.call('HSET', KEYS[i + 2], unpack(record))
      left = left - #found
      out[#out + 1] = { (i - 1) / 4, found }
    end
  end
  if left <= 0 then break end
end
return out
