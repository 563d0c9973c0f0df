-- Gives an epoch the right to claim from a lane, under the number of its session. A session that
-- follows another first hands back, uncounted and in order, what that one was given without its
-- worker learning of it.
--
-- KEYS  list, redelivered, unacked, and for a lane that is waited on: moved (of the session before)
-- ARGV  session, 1 when it follows another, then two per claim without an answer: its first
--       sequence number, how many it could give
-- Returns how many messages went back, or FENCED when the lane was taken away. The session before
-- can do nothing more: its claims find another number, and its waits a destination that is no list.
local session, follows = ARGV[1], ARGV[2] == '1'
local list, redelivered, unacked, moved = unpack(KEYS)
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
local back = hand_back_moved(list, moved) + hand_back(seqs, unacked, list, redelivered)
redis.call('HSET', unacked, '', session)
return back
