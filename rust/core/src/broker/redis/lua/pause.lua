-- Pauses an entry of a schedule, or lets it go on.
--
-- KEYS  definitions, paused, revision
-- ARGV  name, 1 to pause
-- Returns 1 when there is such an entry.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call(ARGV[2] == '1' and 'SADD' or 'SREM', KEYS[2], ARGV[1])
redis.call('INCR', KEYS[3])
return 1
