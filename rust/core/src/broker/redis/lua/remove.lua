-- Removes entries of a schedule.
--
-- KEYS  leader, revision, definitions, done, runs, sent, paused
-- ARGV  see guard.lua; then names
-- Returns how many there were, nothing when the guard did not let it.
if not guarded() then return false end
local names = { unpack(ARGV, 3) }
local removed = redis.call('HDEL', KEYS[3], unpack(names))
for i = 4, 6 do redis.call('HDEL', KEYS[i], unpack(names)) end
redis.call('SREM', KEYS[7], unpack(names))
if removed > 0 then redis.call('INCR', KEYS[2]) end
return removed
