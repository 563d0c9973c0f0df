-- Gives an epoch the right to claim from a lane, under the number of its session. A session that
-- follows another first hands back, uncounted and in order, what that one was given without its
-- worker learning of it.
--
-- KEYS  list, redelivered, unacked, and for a lane that is waited on: moved (of the session before)
-- ARGV  session, 1 when it follows another, then two per claim without an answer: its first
--       sequence number, how many it could give
-- Returns how many messages went back, or FENCED when the lane was taken away. The session before
-- can do nothing more: its claims find another number, and its waits a destination that is no list.
-- What cannot go back, because a key is of another type, stays unacked.
local session, follows = ARGV[1], ARGV[2] == '1'
local list, redelivered, unacked, moved = unpack(KEYS)
local REMEMBER = 60000
redis.call('HDEL', unacked, '-') -- see register.lua
if not follows then
  redis.call('HSET', unacked, '', session)
  return 0
end
if not redis.call('HGET', unacked, '') then
  return redis.error_reply('FENCED the lease of this epoch lapsed')
end
local seqs = {}
if #ARGV > 2 then
  for _, field in ipairs(redis.call('HKEYS', unacked)) do
    local seq = tonumber(field)
    for i = 3, #ARGV, 2 do
      local first = tonumber(ARGV[i])
      if seq and seq >= first and seq < first + ARGV[i + 1] then
        seqs[#seqs + 1] = seq
        break
      end
    end
  end
end
local back = 0
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
table.sort(seqs, function(a, b) return a > b end)
for _, seq in ipairs(seqs) do
  local field = string.format('%.0f', seq)
  local value = redis.call('HGET', unacked, field)
  local marked = string.find(value, '^%zt[bc]%d%d?%d?%d?%d?%d?%d?%d?%d?\n')
  if marked then value = '\0tc' .. string.sub(value, 4) end
  if type(redis.pcall('RPUSH', marked and redelivered or list, value)) == 'number' then
    redis.call('HDEL', unacked, field)
    back = back + 1
  end
end
redis.call('HSET', unacked, '', session)
return back
