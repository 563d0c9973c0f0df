-- Closes a join whose body is published, or gives the claim back.
--
-- KEYS   as in join.lua
-- ARGV   the token of the claim, how long it is remembered that it is closed in ms, or '' to give the
--        claim back
local call, claim = redis.call, KEYS[6]
if call('GET', claim) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return call('DEL', claim) end
call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
call('SET', claim, 'done', 'PX', ARGV[2])
return 1
