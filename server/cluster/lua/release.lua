-- Delete entries that are still what the caller thinks they are.
--
-- KEYS[1]  the hash device → "worker incarnation token"
-- ARGV     pairs: device, entry; an entry that ends in a space stands for any token of that worker's incarnation
-- Returns  how many were deleted

local deleted = 0
for i = 1, #ARGV, 2 do
  local entry = redis.call("HGET", KEYS[1], ARGV[i])
  local expected = ARGV[i + 1]
  if entry and (entry == expected or (string.sub(expected, -1) == " " and string.sub(entry, 1, #expected) == expected)) then
    deleted = deleted + redis.call("HDEL", KEYS[1], ARGV[i])
  end
end
return deleted
