-- Lists the epochs whose lease has ended.
--
-- KEYS  leases of each lane
-- Returns { now (ms), then per lane { epoch, end of lease, ... } }. An end below zero marks an epoch that was declared dead then.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local out = { now }
for i = 1, #KEYS do
  out[#out + 1] = redis.call('ZRANGEBYSCORE', KEYS[i], '-inf', '(' .. now, 'WITHSCORES')
end
return out
