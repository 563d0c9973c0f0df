-- Puts messages into the due set of one lane.
--
-- KEYS  due, later
-- ARGV  three per message: task id, due (ms), message; the ids of one call differ
-- The same id may be scheduled already (a retry, a task id of the user's own): a suffix keeps both, and the identical message,
-- published again after a lost confirmation, stays one.
local ids = {}
for i = 1, #ARGV, 3 do
  ids[#ids + 1] = ARGV[i]
end
local known = redis.call('HMGET', KEYS[2], unpack(ids))
local scores, messages = {}, {}
for k = 1, #ids do
  local due, raw = ARGV[3 * k - 1], ARGV[3 * k]
  local member, n = ids[k], 0
  local there = known[k]
  while there and there ~= raw do
    n = n + 1
    member = ids[k] .. '\31' .. n
    there = redis.call('HGET', KEYS[2], member)
  end
  scores[2 * k - 1], scores[2 * k] = due, member
  messages[2 * k - 1], messages[2 * k] = member, raw
end
redis.call('HSET', KEYS[2], unpack(messages))
redis.call('ZADD', KEYS[1], unpack(scores))
return redis.status_reply('OK')
