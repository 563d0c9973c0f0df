-- Declares a join or counts members of it, and claims it when it is complete. The keys are those of
-- Celery's chords, so stock workers count the same join.
--
-- KEYS   .j members that have ended: a sorted set of `[1, id, state, result]` by index (a list where
--        stock workers are told not to order), .t members added later, .s the size, .d `id:index` of
--        what was counted, the key of the group itself, .c the claim, or `done`, .b the body
-- ARGV   time to live in ms or '', of a claim in ms, the size to declare or '', the body or '', then
--        four per member: token, index or `+inf`, task id, `[1, id, state, result]`; of a declaration
--        the token alone
-- Reply  nil, or whose claim it is and the body if there is one
local call = redis.call
local members, added, size, counted, group, claim, body = unpack(KEYS)
local ttl, lasts, declared = ARGV[1], ARGV[2], ARGV[3]
if declared ~= '' then
  -- A join that is declared again is another run of it.
  if call('GET', claim) == 'done' then call('DEL', claim) end
  call('SET', size, declared)
  if ARGV[4] ~= '' then call('SET', body, ARGV[4]) else call('DEL', body) end
elseif call('GET', claim) == 'done' then
  return false
end
local unordered = call('TYPE', members).ok == 'list'
for i = 6, #ARGV - 2, 4 do
  local index, id, member = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if call('SADD', counted, id .. ':' .. index) == 1 then
    if unordered then call('RPUSH', members, member) else call('ZADD', members, index, member) end
  end
end
if ttl ~= '' then
  for i = 1, 7 do
    if i ~= 6 then call('PEXPIRE', KEYS[i], ttl) end
  end
end
local wanted = call('GET', size)
if not wanted then return false end
local ended = unordered and call('LLEN', members) or call('ZCARD', members)
if ended ~= tonumber(wanted) + tonumber(call('GET', added) or 0) then return false end
local owner = call('GET', claim)
if not owner then
  owner = ARGV[5]
  call('SET', claim, owner, 'PX', lasts)
  return { owner, call('GET', body) }
end
-- The same record once more: the answer to the first attempt was lost.
for i = 5, #ARGV, 4 do
  if ARGV[i] == owner then return { owner, call('GET', body) } end
end
return false
