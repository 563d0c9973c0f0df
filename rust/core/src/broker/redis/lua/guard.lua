-- Whether the entries of a schedule may be changed.
--
-- KEYS  leader, revision, ...
-- ARGV  name of the beat that must lead, revision that they must have (each empty: any), ...
local function guarded()
  return (ARGV[1] == '' or redis.call('GET', KEYS[1]) == ARGV[1])
    and (ARGV[2] == '' or (redis.call('GET', KEYS[2]) or '0') == ARGV[2])
end
