-- Adds entries of a schedule, or changes what they say.
--
-- KEYS  definitions, done, revision
-- ARGV  four per entry: name, definition, the due time that a new one is done with, 1 when one that
--       exists begins there too
for i = 1, #ARGV, 4 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  redis.call(ARGV[i + 3] == '1' and 'HSET' or 'HSETNX', KEYS[2], ARGV[i], ARGV[i + 2])
end
redis.call('INCR', KEYS[3])
return redis.status_reply('OK')
