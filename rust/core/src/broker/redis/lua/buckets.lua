-- Lists the first buckets of the due set of each lane.
--
-- KEYS  due of each lane
-- ARGV  how many buckets per lane
-- Returns { now (ms), { key, error, ... }, then per lane { where a bucket begins (ms), ... } }.
local time = redis.call('TIME')
local out, errors = { time[1] * 1000 + math.floor(time[2] / 1000), 0 }, {}
for i = 1, #KEYS do
  local begins = redis.pcall('ZRANGE', KEYS[i], 0, ARGV[1] - 1)
  if begins.err then
    errors[#errors + 1] = KEYS[i]
    errors[#errors + 1] = begins.err
    begins = {}
  end
  out[i + 2] = begins
end
out[2] = errors
return out
