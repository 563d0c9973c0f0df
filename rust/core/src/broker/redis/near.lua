-- Lists the first buckets of the due set of each lane.
--
-- KEYS  per lane: due, leases
-- ARGV  epoch, how many buckets per lane
-- Returns { now (ms), then per lane { where a bucket begins (ms), ... } }. FENCED when the lease was taken away on any lane.
local epoch = ARGV[1]
local time = redis.call('TIME')
local out = { time[1] * 1000 + math.floor(time[2] / 1000) }
for i = 1, #KEYS, 2 do
  local lease = redis.call('ZSCORE', KEYS[i + 1], epoch)
  if not lease or tonumber(lease) <= 0 then
    return redis.error_reply('FENCED the lease of epoch `' .. epoch .. '` lapsed')
  end
  out[#out + 1] = redis.call('ZRANGE', KEYS[i], 0, ARGV[2] - 1)
end
return out
