-- Drops what is scheduled under a task id in some buckets of one lane, or puts something else into
-- its list instead, where the caller has said which.
--
-- KEYS  list, due, then the buckets
-- ARGV  task id, how many messages the caller has seen, two for each of these (the message as it lies
--       in its bucket, what is put into the list, or '' to drop it), then where each bucket begins
-- Returns how many messages are gone, and those that the caller has not seen, which stay. Suffixes
-- (see schedule.lua) may have gaps where one was claimed; eight misses end the search.
local ID, SEEN, STEP = ARGV[1], tonumber(ARGV[2]), 8
local instead = {}
for i = 3, 2 * SEEN + 1, 2 do instead[ARGV[i]] = ARGV[i + 1] end
local gone, unseen = 0, {}

-- Whether a message lay under one of these names.
local function look(bucket, names)
  local any, found = false, redis.call('HMGET', bucket, unpack(names))
  for k = 1, #names do
    local new = instead[found[k]]
    if new then
      if new ~= '' then
        -- Changes nothing, and lets a server that is full write. What raises here, because the list
        -- is of another type, leaves the message where it is.
        redis.call('HDEL', bucket, '')
        redis.call('LPUSH', KEYS[1], new)
      end
      redis.call('HDEL', bucket, names[k])
      gone = gone + 1
    elseif found[k] then
      unseen[#unseen + 1] = found[k]
    end
    any = any or found[k]
  end
  return any
end

for i = 3, #KEYS do
  local n, names, before = 0, { ID }, gone
  repeat
    for k = 1, STEP do names[#names + 1] = ID .. '\31' .. (n + k) end
    local any = look(KEYS[i], names)
    n, names = n + STEP, {}
  until not any
  -- An emptied bucket no longer exists.
  if gone > before and redis.call('EXISTS', KEYS[i]) == 0 then
    redis.call('ZREM', KEYS[2], ARGV[2 * SEEN + i])
  end
end
return { gone, unseen }
