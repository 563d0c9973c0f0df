-- Declares the size of a join, or adds to it.
--
-- KEYS   as in join.lua
-- ARGV   time to live in ms or '', how many members, and in whose name they are added, once; '' to
--        declare
local call = redis.call
local added, size, counted, claim = KEYS[2], KEYS[3], KEYS[4], KEYS[6]
local ttl, members, token = ARGV[1], ARGV[2], ARGV[3]
local done = call('GET', claim) == 'done'
if token == '' then
  -- A join that is declared again is another run of it.
  if done then call('DEL', claim) end
  call('SET', size, members)
elseif done or call('SADD', counted, token) == 0 then
  return
else
  call('INCRBY', added, members)
end
if ttl ~= '' then
  for i = 1, 5 do call('PEXPIRE', KEYS[i], ttl) end
end
