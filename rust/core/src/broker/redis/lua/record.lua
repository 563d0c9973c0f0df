-- Records messages that a wait moved as unacked under their numbers.
--
-- KEYS  moved, unacked, list
-- ARGV  per message: sequence number, message (at most 500)
--
-- By value, not by place: after a broken connection the list of moved ones may hold a message that
-- no reply announced. When the lane was taken away the messages go back instead, because nobody
-- looks there any more. Where the session has ended `moved` is no list, and there is nothing to do.
local moved, unacked, list = unpack(KEYS)
local session = redis.call('HGET', unacked, '')
local record, back = {}, false
for i = 1, #ARGV, 2 do
  local removed = redis.pcall('LREM', moved, -1, ARGV[i + 1])
  if type(removed) == 'table' then
    return string.find(removed.err, 'WRONGTYPE', 1, true) and 0 or removed
  end
  if removed > 0 and session then
    record[#record + 1], record[#record + 2] = ARGV[i], ARGV[i + 1]
  elseif removed > 0 then
    redis.call('RPUSH', list, ARGV[i + 1])
    back = true
  end
end
if back then return redis.error_reply('FENCED the lease of this epoch lapsed') end
if #record > 0 then redis.call('HSET', unacked, unpack(record)) end
return 1
