-- Add what a worker granted to the buckets of accounts, and answer how much is missing in each over all workers.
--
-- KEYS[1]   the number this worker told last   KEYS[2…]  a bucket each: "units missing, millisecond", gone when it is full
-- ARGV[1]   the number of this batch: one not above the last is a repeat, and adds nothing   ARGV[2]  milliseconds to remember it
-- ARGV[3]   units that flow back in a millisecond
-- ARGV[4…]  for each bucket: units to add, and units that the worker knows to be missing at least, these among them
-- Returns   units missing in each bucket
--
-- The time is this server's. Whatever its clock does, a bucket never lacks less than a worker that sends for it knows.

local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local rate = tonumber(ARGV[3])
local fresh = tonumber(redis.call("GET", KEYS[1]) or "0") < tonumber(ARGV[1])
if fresh then
  redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
end

local answers = {}
for i = 2, #KEYS do
  local missing = 0
  local units, at = string.match(redis.call("GET", KEYS[i]) or "", "^(%d+) (%d+)$")
  if units then
    missing = math.max(tonumber(units) - math.max(now - tonumber(at), 0) * rate, 0)
  end
  if fresh then
    missing = missing + tonumber(ARGV[2 * i])
  end
  missing = math.max(missing, tonumber(ARGV[2 * i + 1]))
  if missing > 0 then
    redis.call("SET", KEYS[i], string.format("%.0f %.0f", missing, now), "PX", string.format("%.0f", math.ceil(missing / rate)))
  end
  answers[i - 1] = string.format("%.0f", missing)
end
return answers
