-- Counts members of a join, and claims it when it is complete. The keys are those of Celery's chords,
-- so stock workers count the same join.
--
-- KEYS   .j members that have ended: a sorted set of `[1, id, state, result]` by index (a list where
--        stock workers are told not to order), .t members added later, .s the size, .d `id:index` of
--        what was counted, the key of the group itself, .c the claim, or `done`
-- ARGV   time to live in ms or '', of a claim in ms, then four per member: token, index or `+inf`,
--        task id, `[1, id, state, result]`
-- Reply  nil, or whose claim it is when it is complete
-- Of a join whose size nobody has declared, where results are kept for ever: a day.
local UNDECLARED = 86400000
local call = redis.call
local members, added, size, counted, group, claim = unpack(KEYS)
local ttl, lasts = ARGV[1], ARGV[2]
if call('GET', claim) == 'done' then return false end
-- Changes nothing, and lets a server count whose memory is full: results are stored there too.
call('SREM', counted, '')
local unordered = call('TYPE', members).ok == 'list'
for i = 4, #ARGV, 4 do
  local index, id, member = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if call('SADD', counted, id .. ':' .. index) == 1 then
    if unordered then call('RPUSH', members, member) else call('ZADD', members, index, member) end
  end
end
local wanted = call('GET', size)
if ttl == '' and not wanted then ttl = UNDECLARED end
if ttl ~= '' then
  for i = 1, 5 do call('PEXPIRE', KEYS[i], ttl) end
end
if not wanted then return false end
local ended = unordered and call('LLEN', members) or call('ZCARD', members)
if ended ~= tonumber(wanted) + tonumber(call('GET', added) or 0) then return false end
local owner = call('GET', claim)
if not owner then
  owner = ARGV[3]
  call('SET', claim, owner, 'PX', lasts)
end
-- It is one of these tokens also when the same record comes once more, because the answer to the
-- first attempt was lost.
return owner
