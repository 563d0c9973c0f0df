-- Hands back everything an epoch has in a lane, in order and uncounted, and gives up its right to
-- claim.
--
-- KEYS  list, redelivered, unacked, and for a lane that is waited on: moved (of its session)
-- Returns how many messages went back.
local list, redelivered, unacked, moved = unpack(KEYS)
redis.call('HDEL', unacked, '')
local seqs = {}
for _, field in ipairs(redis.call('HKEYS', unacked)) do seqs[#seqs + 1] = tonumber(field) end
return hand_back_moved(list, moved) + hand_back(seqs, unacked, list, redelivered)
