-- Has the claim of a join last from now on.
--
-- KEYS   as in join.lua
-- ARGV   the token of the claim, how long it lasts in ms
-- Reply  1, or 0 when the join was closed or is another's by now
local call, claim = redis.call, KEYS[6]
local owner = call('GET', claim)
if owner and owner ~= ARGV[1] then return 0 end
call('SET', claim, ARGV[1], 'PX', ARGV[2])
return 1
