-- Stores and announces result documents. A stored SUCCESS is final, and a state that is not ready
-- never undoes one that is (`State::yields_to`; the state is the first field of a document).
--
-- KEYS   the documents' keys, which are also the channels on which Celery's clients wait
-- ARGV   time to live in ms or '', then five per key: document, the channel of the client that
--        published the task or '', what is said there, or '' for the document itself, 1 or 0:
--        whether its state is ready, and a document that it replaces although the state of that is
--        not seen here, or ''; at the end `full` for documents that are stored although the server's
--        memory is
-- Reply  numbers of the keys that hold a value of another type, which is not touched; and number and
--        document of each key whose document is compressed, so that its state is not seen here: the
--        caller knows how to open it, and says that it is replaced if it is
local call, ttl = redis.call, ARGV[1]
local function set(key, document, ...)
  if ttl == '' then return call('SET', key, document, ...) end
  return call('SET', key, document, 'PX', ttl, ...)
end
local READY = { ['{"status": "SUCCESS"'] = 2, ['{"status": "FAILURE"'] = 1, ['{"status": "REVOKED"'] = 1 }
local RANKS = { SUCCESS = 2, FAILURE = 1, REVOKED = 1 }
local COMPRESSED = '\0celery-compressed\0'
-- A document in another encoding tells its state by the rule of `encoded::state_of`.
local BEGINNING = 24
local function rank_of(document)
  if string.sub(document, 1, 1) == '{' then return READY[string.sub(document, 1, 20)] end
  local last
  if string.find(document, '^[%a_]+:') then
    local _, at = string.find('\n' .. document, '\nstatus:', 1, true)
    last = at and at - 1
  else
    local _, at = string.find(string.sub(document, 1, BEGINNING), 'status', 1, true)
    last = at
  end
  if not last then return nil end
  local told = string.gsub(string.sub(document, last + 1), '^q.X', '')
  return RANKS[string.match(told, '^%A*(%u[%u_]*)') or '']
end
local function stays(old, ready)
  local rank = rank_of(old)
  return rank == 2 or (rank == 1 and ready == '0')
end
-- Changes nothing. Redis lets a script grow without memory only after a write of a kind that does not.
if ARGV[5 * #KEYS + 2] then redis.pcall('HDEL', KEYS[1], '') end
local foreign, unseen = {}, {}
for i = 1, #KEYS do
  local key, document, channel, said, ready, replaced = KEYS[i], unpack(ARGV, 5 * i - 3, 5 * i + 1)
  -- Nearly always nothing is there yet, and one command does it.
  local announced = set(key, document, 'NX')
  if not announced then
    local old = redis.pcall('GETRANGE', key, 0, 19)
    if type(old) == 'table' then
      if not string.find(old.err, 'WRONGTYPE', 1, true) then return old end
      foreign[#foreign + 1] = i
    else
      if string.sub(old, 1, 1) ~= '{' then old = call('GET', key) end
      if old ~= document and old ~= replaced and string.sub(old, 1, #COMPRESSED) == COMPRESSED then
        unseen[#unseen + 1] = { i, old }
      elseif old == replaced or not stays(old, ready) then
        announced = set(key, document)
      else
        -- The very same document: who stored it may have lost its link before it could announce it.
        announced = call('GET', key) == document
      end
    end
  end
  if announced then
    call('PUBLISH', key, document)
    if channel ~= '' then call('PUBLISH', channel, said ~= '' and said or document) end
  end
end
return { foreign, unseen }
