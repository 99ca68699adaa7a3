-- One allowance for the whole fleet: a reservation (GCRA) of the next places of the rate limit.
--
-- KEYS[1]  hash:  tat           when the next free place is, microseconds of Redis TIME
--                 base          requests per second right after the last cut (absent: never cut)
--                 cut_at        when the last cut was, microseconds
--                 not_before    nothing may be sent before, microseconds
--                 second, count, before   places given in this second and in the one before (for cuts)
-- ARGV[1]  operation: "reserve", "cut", "pause" or "look"
-- ARGV[2]  limit, requests per second (what the operator allows)
-- ARGV[3]  reserve: places wanted     cut: microseconds since the answered request was sent    pause: microseconds
-- ARGV[4]  reserve: microseconds that the caller needs before it can use the first place       cut: pause, microseconds
-- ARGV[5]  cut: microseconds between two cuts at least; the effect of a cut needs time to show before the next
-- returns  {places, microseconds until the first place, microseconds from place to place, rate * 1000, paused microseconds}
local GROWTH = 0.05          -- share of the limit that comes back each second after a cut
local HORIZON = 1000000      -- a place further away than this is not given: conditions will have changed
local AT_ONCE = 0.1          -- at most this many seconds' worth of places at once

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local operation, limit = ARGV[1], tonumber(ARGV[2])
local held = redis.call('HMGET', KEYS[1], 'tat', 'base', 'cut_at', 'not_before', 'second', 'count', 'before')
local tat, base, cut_at = tonumber(held[1]) or 0, tonumber(held[2]), tonumber(held[3]) or 0
local not_before = tonumber(held[4]) or 0
local second, count, before = tonumber(held[5]) or 0, tonumber(held[6]) or 0, tonumber(held[7]) or 0

local rate = limit
if base then rate = math.min(limit, base + limit * GROWTH * (now - cut_at) / 1000000) end

if operation == 'cut' then
  -- answers to requests that left before the last cut say nothing about the rate after it
  if now - math.max(tonumber(ARGV[3]), tonumber(ARGV[5])) > cut_at then
    local this = math.floor(now / 1000000)
    local used = 0
    if second == this then used = math.max(count, before) elseif second == this - 1 then used = count end
    if used > 0 then rate = math.min(rate, used) end
    base, cut_at = math.max(math.min(1, limit), rate / 2), now
    rate = base
    not_before = math.max(not_before, now + tonumber(ARGV[4]))
    tat = math.max(tat, not_before)
    redis.call('HSET', KEYS[1], 'base', base, 'cut_at', cut_at, 'not_before', not_before, 'tat', tat)
  end
elseif operation == 'pause' then
  not_before = math.max(not_before, now + tonumber(ARGV[3]))
  redis.call('HSET', KEYS[1], 'not_before', not_before)
end
local interval = 1000000 / rate
local paused = math.max(0, not_before - now)
local answer = {0, 0, math.floor(interval), math.floor(rate * 1000), paused}

if operation == 'reserve' then
  local start = math.max(tat, not_before, now + tonumber(ARGV[4]))
  local places = math.max(1, math.min(tonumber(ARGV[3]), math.floor(rate * AT_ONCE)))
  answer[2] = math.floor(start - now)
  if start - now <= HORIZON then
    local this = math.floor(now / 1000000)
    if second == this then count = count + places
    else before = (second == this - 1) and count or 0; count = places end
    redis.call('HSET', KEYS[1], 'tat', string.format('%.0f', start + places * interval),
      'second', this, 'count', count, 'before', before)
    answer[1] = places
  end
end
redis.call('EXPIRE', KEYS[1], 86400)
return answer
