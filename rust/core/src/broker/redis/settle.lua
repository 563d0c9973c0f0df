-- Settles a batch of held messages of one lane, in order. A message that is not held any more is passed over.
--
-- KEYS  list, again, held, due, dead, then a bucket of the due set for each that is deferred, in their order
-- ARGV  epoch, max deliveries, then four per settlement: how, sequence number, task id, detail
--   a  ack: forget the message
--   h  hand back: to the head, uncounted
--   q  requeue: to the tail of the list; what was counted is forgotten, for this is the task's own decision
--   r  redeliver: counted and to the head, or parked with detail as the reason
--   o  overdue: behind what lies in `again`, so ahead of the list
--   d  defer: into the next bucket under the id; detail is the offset in it (three digits), then where it begins (ms)
--   p  park: among the dead letters, with detail as the reason
-- Messages for the head keep the order of the batch. A suspect carries its count in front, `\0tc<count>\n`, and its head is
-- that of `again`, so that the list holds nothing but what producers wrote. While it is held and has begun, the `c` is a `b`.
local epoch, max = ARGV[1], tonumber(ARGV[2])
local head = {}
local buckets = 5

local function count_of(value)
  if string.byte(value) ~= 0 then return 0, value end
  local count, start = string.match(value, '^%zt[bc](%d+)\n()')
  if not count then return 0, value end
  return tonumber(count), string.sub(value, start)
end

local function park(seq, id, reason, count, raw)
  local time = redis.call('TIME')
  local at = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  local record = string.format('%s %d %d %d\n', at, count, #id, #reason) .. id .. reason .. raw
  redis.call('HSET', KEYS[5], at .. '-' .. epoch .. '-' .. string.format('%016.0f', seq), record)
end

-- The same id may be scheduled twice (a retry, a task id of the user's own): a suffix keeps both.
local function schedule(bucket, id, detail, value)
  local offset, begin = string.sub(detail, 1, 3), string.sub(detail, 4)
  local member, n = id, 0
  while redis.call('HSETNX', bucket, member, offset .. value) == 0 do
    n = n + 1
    member = id .. '\31' .. n
  end
  redis.call('ZADD', KEYS[4], begin, begin)
end

for i = 3, #ARGV, 4 do
  local how, seq, id, detail = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local value = redis.call('HGET', KEYS[3], seq)
  if how == 'd' then buckets = buckets + 1 end
  if value then
    redis.call('HDEL', KEYS[3], seq)
    local count, raw = count_of(value)
    if #raw < #value then value = '\0tc' .. string.sub(value, 4) end
    if how == 'h' then
      head[#head + 1] = value
    elseif how == 'q' then
      redis.call('LPUSH', KEYS[1], raw)
    elseif how == 'o' then
      redis.call('LPUSH', KEYS[2], value)
    elseif how == 'd' then
      schedule(KEYS[buckets], id, detail, value)
    elseif how == 'p' then
      park(seq, id, detail, count, raw)
    elseif how == 'r' then
      count = count + 1
      if count >= max then
        park(seq, id, detail, count, raw)
      else
        head[#head + 1] = '\0tc' .. count .. '\n' .. raw
      end
    end
  end
end
for k = #head, 1, -1 do
  local _, raw = count_of(head[k])
  redis.call('RPUSH', #raw < #head[k] and KEYS[2] or KEYS[1], head[k])
end
return redis.status_reply('OK')
