-- Stores and announces result documents; a stored SUCCESS is final.
--
-- KEYS  the documents' keys, which are also the channels on which Celery's clients wait
-- ARGV  four per key: document, time to live in ms or '', channel of the client that published the task or '', task id
-- A client's own channel carries many tasks: its payload is `<length of the id>:<id><document>`.
for i = 1, #KEYS do
  local key, n = KEYS[i], 4 * i
  local document, ttl, channel, id = ARGV[n - 3], ARGV[n - 2], ARGV[n - 1], ARGV[n]
  local stored
  -- Nearly always nothing is there yet, and one command does it.
  if ttl == '' then
    stored = redis.call('SET', key, document, 'NX')
  else
    stored = redis.call('SET', key, document, 'PX', ttl, 'NX')
  end
  if not stored and redis.call('GETRANGE', key, 0, 19) ~= '{"status": "SUCCESS"' then
    if ttl == '' then
      stored = redis.call('SET', key, document)
    else
      stored = redis.call('SET', key, document, 'PX', ttl)
    end
  end
  if stored then
    redis.call('PUBLISH', key, document)
    if channel ~= '' then
      redis.call('PUBLISH', channel, #id .. ':' .. id .. document)
    end
  end
end
return redis.status_reply('OK')
