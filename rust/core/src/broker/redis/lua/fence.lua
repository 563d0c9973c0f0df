-- Takes a lane away from an epoch, so that what it has there may be moved in peace.
--
-- KEYS  unacked, moved (of its session)
-- Its claims find no session any more, and a wait of a
-- process that was stopped finds a destination that is no list. What waits moved came after all
-- that was claimed: it gets numbers beyond theirs.
local REMEMBER = 60000
redis.call('HDEL', KEYS[1], '')
if redis.call('TYPE', KEYS[2]).ok == 'list' then
  local seq = 4e15
  local raw = redis.call('RPOP', KEYS[2])
  while raw do
    while redis.call('HSETNX', KEYS[1], seq, raw) == 0 do seq = seq + 1 end
    raw = redis.call('RPOP', KEYS[2])
  end
end
redis.call('SET', KEYS[2], 'ended', 'PX', REMEMBER)
return redis.status_reply('OK')
