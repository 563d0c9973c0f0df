-- Hands back everything an epoch has in a lane, in order and uncounted, and gives up its right to
-- claim.
--
-- KEYS  list, redelivered, unacked, and for a lane that is waited on: moved (of its session)
-- Returns how many messages went back. Those that carry a count (see settle.lua) go where these
-- wait.
local list, redelivered, unacked, moved = unpack(KEYS)
local REMEMBER, back = 60000, 0
redis.call('HDEL', unacked, '')
-- What a wait moved is newer than what was claimed, and stands with its newest first.
if moved then
  if redis.call('TYPE', moved).ok == 'list' then
    for _, raw in ipairs(redis.call('LRANGE', moved, 0, -1)) do
      redis.call('RPUSH', list, raw)
      back = back + 1
    end
  end
  redis.call('SET', moved, 'ended', 'PX', REMEMBER)
end
local seqs = redis.call('HKEYS', unacked)
for k = 1, #seqs do seqs[k] = tonumber(seqs[k]) end
table.sort(seqs, function(a, b) return a > b end)
for k = 1, #seqs do
  local field = string.format('%.0f', seqs[k])
  local value = redis.call('HGET', unacked, field)
  local marked = string.find(value, '^%zt[bc]%d%d?%d?%d?%d?%d?%d?%d?%d?\n')
  if marked then value = '\0tc' .. string.sub(value, 4) end
  redis.call('RPUSH', marked and redelivered or list, value)
  redis.call('HDEL', unacked, field)
end
return back + #seqs
