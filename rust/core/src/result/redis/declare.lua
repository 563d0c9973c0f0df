-- Declares the size of a join, or adds to it.
--
-- KEYS   as in join.lua
-- ARGV   time to live in ms or '', how many members, and in whose name they are added, once; '' to
--        declare
-- Of a join whose size nobody has declared, where results are kept for ever: a day.
local UNDECLARED = 86400000
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
if ttl == '' and call('EXISTS', size) == 0 then ttl = UNDECLARED end
for i = 1, 5 do
  if ttl ~= '' then call('PEXPIRE', KEYS[i], ttl) else call('PERSIST', KEYS[i]) end
end
