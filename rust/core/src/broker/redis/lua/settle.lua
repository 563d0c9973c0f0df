-- Settles a batch of unacked messages of one lane, in order. A message that is not unacked any more
-- is passed over.
--
-- KEYS  list, redelivered, overdue, unacked, due, dead, then a bucket of the due set for each that
--       is deferred, in their order
-- ARGV  epoch, max deliveries, then four per settlement: how, sequence number, task id, detail
--   a  ack: forget the message
--   h  hand back: to the head, uncounted
--   q  requeue: to the tail of the list, or of `redelivered` if it was counted, which it stays
--   r  redeliver: counted and to the head, or parked with detail as the reason
--   o  overdue: ahead of the list, behind what was overdue before
--   d  defer: into the next bucket under the id; detail is the offset in it (three digits), then
--      where it begins (ms)
--   p  park: among the dead letters, with detail as the reason
-- Returns { sequence number, error, ... } for those that could not be settled, because a key is of
-- another type: they stay unacked. So each is written to its new place before it is deleted.
--
-- Messages for the head keep the order of the batch. A suspect carries its count in front,
-- `\0tc<count>\n` of up to nine digits (with more it is a message that somebody else wrote), and its
-- place is in `redelivered`, so that the list holds nothing but what producers wrote. While it is
-- unacked and has begun, the `c` is a `b`.
local epoch, max = ARGV[1], tonumber(ARGV[2])
local list, redelivered, overdue, unacked, due, dead = unpack(KEYS, 1, 6)
local head, failed = {}, {}
local buckets = 6
redis.call('HDEL', unacked, '-') -- see register.lua

local function count_of(value)
  if string.byte(value) ~= 0 then return 0, value end
  local count, start = string.match(value, '^%zt[bc](%d%d?%d?%d?%d?%d?%d?%d?%d?)\n()')
  if not count then return 0, value end
  return tonumber(count), string.sub(value, start)
end

-- Deletes what was written elsewhere, or notes why it was not.
local function moved(seq, written)
  if type(written) == 'table' and written.err then
    failed[#failed + 1] = seq
    failed[#failed + 1] = written.err
  else
    redis.call('HDEL', unacked, seq)
  end
end

local function park(seq, id, reason, count, raw)
  local time = redis.call('TIME')
  local at = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  local record = string.format('%s %d %d %d\n', at, count, #id, #reason) .. id .. reason .. raw
  local key = at .. '-' .. epoch .. '-' .. string.format('%016.0f', seq)
  moved(seq, redis.pcall('HSET', dead, key, record))
end

-- The same id may be scheduled twice (a retry, a task id of the user's own): a suffix keeps both.
local function schedule(seq, bucket, id, detail, value)
  local offset, begin = string.sub(detail, 1, 3), string.sub(detail, 4)
  local entered = redis.pcall('ZADD', due, begin, begin)
  if type(entered) == 'table' then return moved(seq, entered) end
  local member, n = id, 0
  local written
  repeat
    written = redis.pcall('HSETNX', bucket, member, offset .. value)
    n = n + 1
    member = id .. '\31' .. n
  until written ~= 0
  moved(seq, written)
end

for i = 3, #ARGV, 4 do
  local how, seq, id, detail = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local value = redis.call('HGET', unacked, seq)
  if how == 'd' then buckets = buckets + 1 end
  if value then
    local count, raw = count_of(value)
    if #raw < #value then value = '\0tc' .. string.sub(value, 4) end
    if how == 'a' then
      redis.call('HDEL', unacked, seq)
    elseif how == 'h' then
      head[#head + 1] = { seq, value }
    elseif how == 'q' then
      if count > 0 then
        moved(seq, redis.pcall('LPUSH', redelivered, value))
      else
        moved(seq, redis.pcall('LPUSH', list, raw))
      end
    elseif how == 'o' then
      moved(seq, redis.pcall('LPUSH', #raw < #value and redelivered or overdue, value))
    elseif how == 'd' then
      schedule(seq, KEYS[buckets], id, detail, value)
    elseif how == 'p' then
      park(seq, id, detail, count, raw)
    elseif how == 'r' then
      count = math.min(count + 1, 999999999)
      if count >= max then
        park(seq, id, detail, count, raw)
      else
        head[#head + 1] = { seq, '\0tc' .. count .. '\n' .. raw }
      end
    end
  end
end
for k = #head, 1, -1 do
  local seq, value = unpack(head[k])
  local _, raw = count_of(value)
  moved(seq, redis.pcall('RPUSH', #raw < #value and redelivered or list, value))
end
return failed
