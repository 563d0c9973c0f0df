-- Stores and announces result documents; a stored SUCCESS is final.
--
-- KEYS  the documents' keys, which are also the channels on which Celery's clients wait
-- ARGV  time to live in ms or '', length of what stands before the task id in a key, then two per key: document, and the channel of
--       the client that published the task or ''
-- A client's own channel carries many tasks: its payload is `<length of the id>:<id><document>`.
local ttl, prefix = ARGV[1], ARGV[2] + 1
local function set(key, document, ...)
  if ttl == '' then return redis.call('SET', key, document, ...) end
  return redis.call('SET', key, document, 'PX', ttl, ...)
end
for i = 1, #KEYS do
  local key, document, channel = KEYS[i], ARGV[2 * i + 1], ARGV[2 * i + 2]
  -- Nearly always nothing is there yet, and one command does it.
  local stored = set(key, document, 'NX')
  if not stored and redis.call('GETRANGE', key, 0, 19) ~= '{"status": "SUCCESS"' then
    stored = set(key, document)
  end
  if stored then
    redis.call('PUBLISH', key, document)
    if channel ~= '' then
      local id = string.sub(key, prefix)
      redis.call('PUBLISH', channel, #id .. ':' .. id .. document)
    end
  end
end
return redis.status_reply('OK')
