-- Sends what is due of a schedule, and moves each entry to the due time that it is done with then.
--
-- KEYS  done, runs, sent, paused, then lists, and dues with a bucket each
-- ARGV  now (ms), then six per firing: name, the due time it is done with as the caller knows, the
--       one after that, which of the further keys takes the message (0: there is none), for a bucket
--       its begin and task id joined by a space (else nothing), the message
-- Returns 1 or 0 per firing. An entry that is elsewhere, is paused or is gone stays as it is, and so
-- does one whose message cannot be written.
local done, runs, sent, paused = unpack(KEYS, 1, 4)
local now, out = ARGV[1], {}

-- Puts a message into its bucket as schedule.lua does, beside others of its id; its answer is a
-- number unless that fails, and then nothing is left of it.
local function schedule(due, bucket, begin, id, raw)
  local member, n = id, 0
  local new = redis.pcall('HSETNX', bucket, member, raw)
  while new == 0 and redis.call('HGET', bucket, member) ~= raw do
    n = n + 1
    member = id .. '\31' .. n
    new = redis.pcall('HSETNX', bucket, member, raw)
  end
  if type(new) ~= 'number' then return new end
  local answer = redis.pcall('ZADD', due, begin, begin)
  if type(answer) ~= 'number' and new == 1 then redis.call('HDEL', bucket, member) end
  return answer
end

for i = 2, #ARGV, 6 do
  local name, place, scheduled, raw = ARGV[i], tonumber(ARGV[i + 3]), ARGV[i + 4], ARGV[i + 5]
  local moved = redis.call('HGET', done, name) == ARGV[i + 1]
    and redis.call('SISMEMBER', paused, name) == 0
  if moved then
    if place > 0 then
      -- First what may fail, because a key is of another type.
      local answer
      if scheduled == '' then
        answer = redis.pcall('LPUSH', KEYS[4 + place], raw)
      else
        local begin, id = string.match(scheduled, '^(%S+) (.*)$')
        answer = schedule(KEYS[4 + place], KEYS[5 + place], begin, id, raw)
      end
      moved = type(answer) == 'number'
    end
    if moved then
      if place > 0 then
        redis.call('HINCRBY', runs, name, 1)
        redis.call('HSET', sent, name, now)
      end
      redis.call('HSET', done, name, ARGV[i + 2])
    end
  end
  out[#out + 1] = moved and 1 or 0
end
return out
