-- Puts a message that a blocked wait moved into the inbox, and that no reply reached the worker for, back to its list.
--
-- KEYS  inbox, list
-- ARGV  message
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
return redis.call('RPUSH', KEYS[2], ARGV[1])
