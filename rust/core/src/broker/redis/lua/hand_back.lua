-- Stands in front of the scripts that hand back what an epoch holds in a lane: open, release.

-- How long a moved list stays the text `ended`, in milliseconds: longer than a wait lasts that was
-- under way.
local REMEMBER = 60000

-- Empties the list that waits move into, back to the end that is claimed from; how many there were.
-- They are newer than what was claimed, and stand with the newest first.
local function hand_back_moved(list, moved)
  if not moved then return 0 end
  local back = 0
  if redis.call('TYPE', moved).ok == 'list' then
    for _, raw in ipairs(redis.call('LRANGE', moved, 0, -1)) do
      redis.call('RPUSH', list, raw)
      back = back + 1
    end
  end
  redis.call('SET', moved, 'ended', 'PX', REMEMBER)
  return back
end

-- Puts unacked messages back in order and uncounted; how many. Those that carry a count (see
-- settle.lua) go where these wait. What cannot go back, because a key is of another type, stays.
local function hand_back(seqs, unacked, list, redelivered)
  local back = 0
  table.sort(seqs, function(a, b) return a > b end)
  for _, seq in ipairs(seqs) do
    local field = string.format('%.0f', seq)
    local value = redis.call('HGET', unacked, field)
    local marked = string.find(value, '^%zt[bc]%d%d?%d?%d?%d?%d?%d?%d?%d?\n')
    if marked then value = '\0tc' .. string.sub(value, 4) end
    if type(redis.pcall('RPUSH', marked and redelivered or list, value)) == 'number' then
      redis.call('HDEL', unacked, field)
      back = back + 1
    end
  end
  return back
end
