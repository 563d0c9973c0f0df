-- Adds entries of a schedule, or changes what they say.
--
-- KEYS  leader, revision, definitions, done
-- ARGV  see guard.lua; then four per entry: name, definition, the due time that a new one is done
--       with, 1 when one that exists begins there too unless it is further on
-- Returns 1, or 0 when the guard did not let it.
if not guarded() then return 0 end
for i = 3, #ARGV, 4 do
  local name, begin = ARGV[i], ARGV[i + 2]
  redis.call('HSET', KEYS[3], name, ARGV[i + 1])
  if redis.call('HSETNX', KEYS[4], name, begin) == 0 and ARGV[i + 3] == '1'
    and tonumber(redis.call('HGET', KEYS[4], name)) < tonumber(begin) then
    redis.call('HSET', KEYS[4], name, begin)
  end
end
redis.call('INCR', KEYS[2])
return 1
