-- Give a lease up if it is still the caller's: everything claimed under it is absent from then on.
--
-- KEYS[1]  the lease
-- ARGV[1]  incarnation
-- Returns  1 if it was given up

if redis.call("GET", KEYS[1]) == ARGV[1] then
  return redis.call("DEL", KEYS[1])
end
return 0
