-- Hands back everything an epoch still holds, in order and uncounted, and drops its lease.
--
-- KEYS  per lane: list, again, held, inbox, leases
-- ARGV  epoch
-- Returns how many messages went back. Those that carry a count (see settle.lua) go where these wait.
local epoch, back = ARGV[1], 0
for i = 1, #KEYS, 5 do
  local list, again, held, inbox, leases = unpack(KEYS, i, i + 4)
  -- What waits landed is newer than what was claimed, and its newest stands first.
  local landed = redis.call('LRANGE', inbox, 0, -1)
  for k = 1, #landed do redis.call('RPUSH', list, landed[k]) end
  local seqs = redis.call('HKEYS', held)
  for k = 1, #seqs do seqs[k] = tonumber(seqs[k]) end
  table.sort(seqs, function(a, b) return a > b end)
  for k = 1, #seqs do
    local value = redis.call('HGET', held, seqs[k])
    local marked = string.find(value, '^%zt[bc]%d+\n')
    if marked then value = '\0tc' .. string.sub(value, 4) end
    redis.call('RPUSH', marked and again or list, value)
  end
  redis.call('DEL', held, inbox)
  redis.call('ZREM', leases, epoch)
  back = back + #landed + #seqs
end
return back
