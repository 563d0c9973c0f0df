-- Drops what is scheduled under a task id in some buckets of one lane.
--
-- KEYS  due, then the buckets
-- ARGV  task id, then where each bucket begins
-- Returns how many messages that were. Suffixes (see schedule.lua) may have gaps where one was
-- claimed; eight misses end the search.
local ID, STEP = ARGV[1], 8
local dropped = 0
for i = 2, #KEYS do
  local n, gone = 0, redis.call('HDEL', KEYS[i], ID)
  local any = gone
  repeat
    local names = {}
    for k = 1, STEP do names[k] = ID .. '\31' .. (n + k) end
    n = n + STEP
    gone = redis.call('HDEL', KEYS[i], unpack(names))
    any = any + gone
  until gone == 0
  dropped = dropped + any
  -- An emptied bucket no longer exists.
  if any > 0 and redis.call('EXISTS', KEYS[i]) == 0 then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return dropped
