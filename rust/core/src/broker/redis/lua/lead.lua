-- Takes or renews the lease of a beat, if no other has it.
--
-- KEYS  leader, revision
-- ARGV  name of the beat, length of the lease (ms)
-- Returns { name of the beat that leads, revision }.
local leader = redis.call('GET', KEYS[1])
if not leader or leader == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  leader = ARGV[1]
end
return { leader, tonumber(redis.call('GET', KEYS[2]) or 0) }
