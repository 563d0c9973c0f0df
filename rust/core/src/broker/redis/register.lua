-- Takes, or renews, the lease of an epoch on all lanes of a worker.
--
-- KEYS  leases of each lane, then the inboxes of this epoch in the same order
-- ARGV  epoch, lease in ms, `new` or `renew`
-- Returns { now (ms), earliest previous end of the lease or 0, then per lane the oldest message in the inbox or '' }. FENCED when a
-- renewed lease was taken away on any lane; then no lane is renewed.
local epoch, length, mode = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lanes = #KEYS / 2
local previous = 0
for i = 1, lanes do
  local lease = tonumber(redis.call('ZSCORE', KEYS[i], epoch) or 0)
  if mode == 'renew' and lease <= 0 then
    return redis.error_reply('FENCED the lease of epoch `' .. epoch .. '` lapsed')
  end
  if i == 1 or lease < previous then previous = lease end
end
local out = { now, previous }
for i = 1, lanes do
  redis.call('ZADD', KEYS[i], now + length, epoch)
  out[#out + 1] = redis.call('LINDEX', KEYS[lanes + i], -1) or ''
end
return out
