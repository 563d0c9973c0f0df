-- Stores and announces result documents. A stored SUCCESS is final, and a state that is not ready never undoes one that is
-- (`State::yields_to`; the state is the first field of a document).
--
-- KEYS  the documents' keys, which are also the channels on which Celery's clients wait
-- ARGV  time to live in ms or '', then two per key: document, and the channel of the client that published the task or ''
-- A client's own channel carries the document as it is, which names its task: framing it here would cost more than storing it.
local call, ttl = redis.call, ARGV[1]
local function set(key, document, ...)
  if ttl == '' then return call('SET', key, document, ...) end
  return call('SET', key, document, 'PX', ttl, ...)
end
local READY = { ['{"status": "SUCCESS"'] = 2, ['{"status": "FAILURE"'] = 1, ['{"status": "REVOKED"'] = 1 }
local function stays(old, new)
  local rank = READY[old]
  return rank == 2 or (rank == 1 and not READY[string.sub(new, 1, 20)])
end
for i = 1, #KEYS do
  local key, document, channel = KEYS[i], ARGV[2 * i], ARGV[2 * i + 1]
  -- Nearly always nothing is there yet, and one command does it.
  local stored = set(key, document, 'NX')
  if not stored and not stays(call('GETRANGE', key, 0, 19), document) then
    stored = set(key, document)
  end
  if stored then
    call('PUBLISH', key, document)
    if channel ~= '' then call('PUBLISH', channel, document) end
  end
end
return redis.status_reply('OK')
