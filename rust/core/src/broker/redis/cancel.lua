-- Drops what is scheduled under a task id in one lane.
--
-- KEYS  due, later
-- ARGV  task id
-- Returns how many messages that were. Suffixes (see schedule.lua) may have gaps where one was claimed; eight misses end the search.
local dropped, misses, n, member = 0, 0, 0, ARGV[1]
while misses < 8 do
  if redis.call('ZREM', KEYS[1], member) == 1 then
    redis.call('HDEL', KEYS[2], member)
    dropped, misses = dropped + 1, 0
  else
    misses = misses + 1
  end
  n = n + 1
  member = ARGV[1] .. '\31' .. n
end
return dropped
