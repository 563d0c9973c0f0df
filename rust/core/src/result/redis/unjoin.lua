-- Closes a join whose body is published, or gives the claim back.
--
-- KEYS   as in join.lua
-- ARGV   the token of the claim, how long it is remembered that it is closed in ms, or '' to give the
--        claim back
-- A claim that has lapsed and is nobody else's still closes the join.
local call, claim = redis.call, KEYS[6]
local owner = call('GET', claim)
if owner and owner ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return call('DEL', claim) end
call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
call('SET', claim, 'done', 'PX', ARGV[2])
return 1
