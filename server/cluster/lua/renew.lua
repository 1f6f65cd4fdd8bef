-- Extend a lease if it is still the caller's, take it if it is nobody's, and tell which store this is.
--
-- KEYS[1]  the lease   KEYS[2]  the hash of the devices, which also holds the marker
-- ARGV[1]  incarnation   ARGV[2]  milliseconds   ARGV[3]  a marker to set where there is none
-- ARGV[4]  "take": whoever holds it, it is the caller's now (a worker that starts); else "renew"
-- Returns  "held", "taken" or "lost", and the marker: another one than before says that the entries are gone

local holder = redis.call("GET", KEYS[1])
local state = "lost"
if holder == ARGV[1] then
  redis.call("PEXPIRE", KEYS[1], ARGV[2])
  state = "held"
elseif not holder or ARGV[4] == "take" then
  redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
  state = "taken"
end
if state ~= "lost" then
  redis.call("HSETNX", KEYS[2], "marker", ARGV[3])
end
return {state, redis.call("HGET", KEYS[2], "marker")}
