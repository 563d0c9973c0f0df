-- Puts dead letters back to the tail of their list.
--
-- KEYS  list, dead
-- ARGV  keys of the dead letters, oldest first
-- Returns how many there were. A record is `at count idlen reasonlen\n`, the id, the reason, the
-- message; what is none stays where it is.
local n = 0
redis.call('HDEL', KEYS[2], '-') -- see register.lua
for i = 1, #ARGV do
  local record = redis.call('HGET', KEYS[2], ARGV[i])
  if record then
    -- An earlier version wrote a count below zero for a message that claimed a very large one.
    local id, reason, start = string.match(record, '^%d+ %-?%d+ (%d+) (%d+)\n()')
    start = start and start + id + reason
    if start and start <= #record + 1 then
      redis.call('LPUSH', KEYS[1], string.sub(record, start))
      redis.call('HDEL', KEYS[2], ARGV[i])
      n = n + 1
    end
  end
end
return n
