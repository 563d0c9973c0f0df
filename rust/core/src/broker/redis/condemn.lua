-- Declares an epoch dead on one lane: from here on it can neither claim nor renew, so what it held may be moved in peace.
--
-- KEYS  leases, held, inbox
-- ARGV  epoch, how long the mark is kept (ms)
-- Returns the sequence numbers to recover, or nil when the epoch is alive again or forgotten. The mark (the negated time of death) outlives
-- the recovery, because a wait of a stopped or cut-off process may still land a message in the inbox later.
local lease = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or math.huge)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if lease >= now then return false end
if lease > 0 then
  redis.call('ZADD', KEYS[1], -now, ARGV[1])
end
-- What waits landed came after all that was claimed: it gets numbers beyond theirs.
local seq = 4e15
local raw = redis.call('RPOP', KEYS[3])
while raw do
  while redis.call('HSETNX', KEYS[2], seq, raw) == 0 do seq = seq + 1 end
  raw = redis.call('RPOP', KEYS[3])
end
local held = redis.call('HKEYS', KEYS[2])
if #held == 0 and lease < 0 and now + lease > tonumber(ARGV[2]) then
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return held
