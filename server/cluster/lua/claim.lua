-- Write who holds devices: set what is absent, dead, or older. One call for a batch of connects.
--
-- KEYS[1]  the hash device → "worker incarnation token"
-- KEYS[2]  what every lease key begins with; the worker's name follows (one hash slot holds them all)
-- ARGV[1]  worker   ARGV[2]  incarnation   ARGV[3]  a floor for new tokens
-- ARGV[4…] pairs: device, token; token 0 is a new claim, which gets one newer than every earlier claim's
-- Returns  pairs: the token now held ("" when a newer claim stands), the living entry elsewhere that was displaced or stands ("" for none)

local clock = redis.call("TIME")
local now = math.max(clock[1] * 1000000 + clock[2], tonumber(ARGV[3]))
local living = {}
local answer = {}

local function lives(worker, incarnation)
  if living[worker] == nil then
    living[worker] = redis.call("GET", KEYS[2] .. worker)
  end
  return living[worker] == incarnation
end

for i = 4, #ARGV, 2 do
  local token = tonumber(ARGV[i + 1])
  local entry = redis.call("HGET", KEYS[1], ARGV[i])
  local other = ""
  local held = 0
  if entry then
    local worker, incarnation, stamp = string.match(entry, "^(%S+) (%S+) (%d+)$")
    if worker and (worker ~= ARGV[1] or incarnation ~= ARGV[2]) and lives(worker, incarnation) then
      other = entry
      held = tonumber(stamp)
    end
  end
  if token == 0 then
    token = math.max(now, held + 1)
  end
  if token > held then
    local stamp = string.format("%.0f", token)
    redis.call("HSET", KEYS[1], ARGV[i], ARGV[1] .. " " .. ARGV[2] .. " " .. stamp)
    answer[#answer + 1] = stamp
  else
    answer[#answer + 1] = ""
  end
  answer[#answer + 1] = other
end
return answer
