-- Puts a message that was heard on a channel into a queue, unless another worker has done so.
-- KEYS: the list; the note that says that it was heard.
-- ARGV: the message; how long the note stays, in seconds; how long the list stays, 0 for ever.
-- Reply: 1 if it was put.
if not redis.call('SET', KEYS[2], 1, 'NX', 'EX', ARGV[2]) then
    return 0
end
redis.call('LPUSH', KEYS[1], ARGV[1])
if ARGV[3] ~= '0' then
    redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return 1
