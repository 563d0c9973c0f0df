-- Puts messages into a bucket of the due set, where others may lie under the same ids.
--
-- KEYS  due, bucket
-- ARGV  where the bucket begins (ms), then two per message: task id, message with its offset; the
--       ids of one call differ
-- The same id may be scheduled already (a retry, a task id of the user's own): a suffix keeps both,
-- and the identical message, published again after a lost confirmation, stays one.
local ids = {}
for i = 2, #ARGV, 2 do
  ids[#ids + 1] = ARGV[i]
end
local known = redis.call('HMGET', KEYS[2], unpack(ids))
local messages = {}
for k = 1, #ids do
  local raw = ARGV[2 * k + 1]
  local member, n = ids[k], 0
  local there = known[k]
  while there and there ~= raw do
    n = n + 1
    member = ids[k] .. '\31' .. n
    there = redis.call('HGET', KEYS[2], member)
  end
  messages[2 * k - 1], messages[2 * k] = member, raw
end
redis.call('HSET', KEYS[2], unpack(messages))
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[1])
return redis.status_reply('OK')
