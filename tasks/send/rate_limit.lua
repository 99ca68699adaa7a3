-- One allowance for the whole fleet: a reservation (GCRA) of the next places of the rate limit.
--
-- KEYS[1]  hash:  tat           when the next free place is, microseconds of Redis TIME
--                 base          requests per second right after the last cut (absent: never cut)
--                 cut_at        when the last cut was, microseconds
--                 not_before    nothing may be sent before, microseconds
--                 second, count, before   places given in this second and in the one before (for cuts)
--                 seen          the last TIME that was seen here, microseconds
-- ARGV[1]  operation: "reserve", "cut", "pause" or "look"
-- ARGV[2]  limit, requests per second (what the operator allows)
-- ARGV[3]  reserve: places wanted     cut: microseconds since the answered request was sent    pause: microseconds
-- ARGV[4]  reserve: microseconds that the caller needs before it can use the first place       cut: pause, microseconds
-- ARGV[5]  cut: microseconds between two cuts at least; the effect of a cut needs time to show before the next
-- ARGV[6]  microseconds until the next free place, as far as the caller knows; counts only if the key is lost
-- ARGV[7]  microseconds until the end of a pause that the caller knows of
-- ARGV[8]  the rate that the caller knows of: requests per second * 1000; 0: nothing known
-- ARGV[9]  microseconds until the caller's own last place has passed
-- returns  {places, microseconds until the first place, microseconds from place to place, rate * 1000, paused microseconds,
--           what was put right: 0 nothing, 1 times, because Redis's clock went back, 2 values that nobody of ours wrote,
--           3 what the caller knows better: its clock went forward, or values were lost or changed}
local GROWTH = 0.05          -- share of the limit that comes back each second after a cut
local HORIZON = 1000000      -- a place further away than this is not given: conditions will have changed
local AT_ONCE = 0.1          -- at most this many seconds' worth of places at once
local LONGEST_PAUSE = 86400000000
local MOST = 9007199254740992  -- larger whole numbers are not exact
local SLACK = 250000         -- what a caller knows is so uncertain: requests take their time
local STEP = 1000000         -- a clock that goes back by less is put right by its keeper, and not worth a word

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local operation, limit = ARGV[1], tonumber(ARGV[2])
local put_right = 0

local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then
  redis.call('DEL', KEYS[1])
  put_right = 2
end
local names = {'tat', 'base', 'cut_at', 'not_before', 'second', 'count', 'before', 'seen'}
local values = redis.call('HMGET', KEYS[1], unpack(names))
local held = {}
for at, name in ipairs(names) do
  local number = tonumber(values[at])
  if number and number >= 0 and number < MOST then held[name] = number
  elseif values[at] then put_right = 2 end
end

-- times are relative to the last one seen here: a clock that goes back takes them along
local back = (held.seen or 0) - now
if back > 0 then
  for _, name in ipairs({'tat', 'cut_at', 'not_before'}) do
    if held[name] then held[name] = math.max(0, held[name] - back) end
  end
  if held.second then held.second = math.max(0, held.second - math.floor(back / 1000000)) end
  if back > STEP and put_right == 0 then put_right = 1 end
end
-- and none is further away than one that was written here can be
local function no_later_than(name, latest)
  if held[name] and held[name] > latest then held[name] = latest; put_right = 2 end
end
no_later_than('cut_at', now)
no_later_than('not_before', now + LONGEST_PAUSE)
no_later_than('tat', math.max(now, held.not_before or 0) + 2 * HORIZON + 1000000 / math.min(1, limit))
no_later_than('count', 1000000)
no_later_than('before', 1000000)
if held.base and held.base < math.min(1, limit) then held.base = nil; put_right = 2 end

local known = tonumber(ARGV[8]) / 1000
local is_new = not held.tat
if is_new then  -- a new key, or a lost one: then the caller knows more
  held.tat = now + tonumber(ARGV[6])
  held.not_before = math.max(held.not_before or 0, now + tonumber(ARGV[7]))
  if not held.base and known > 0 and known < limit then held.base, held.cut_at = known, now end
end

local tat, base, cut_at, not_before = held.tat, held.base, held.cut_at or 0, held.not_before or 0
local second, count, before = held.second or 0, held.count or 0, held.before or 0
local rate = limit
if base then rate = math.min(limit, base + limit * GROWTH * (now - cut_at) / 1000000) end

-- neither a clock that goes forward nor a value that somebody has written ends a pause or a cut, or gives a place twice
local free_in, pause = tonumber(ARGV[9]), tonumber(ARGV[7])
local knows_better = false
if not is_new then
  if free_in > 0 and now + free_in > tat + SLACK then tat, knows_better = now + free_in, true end
  if pause > 0 and now + pause > not_before + SLACK then not_before, knows_better = now + pause, true end
  if known > 0 and known < rate - GROWTH * limit then base, cut_at, rate, knows_better = known, now, known, true end
end
if knows_better and put_right == 0 then put_right = 3 end

if operation == 'cut' then
  -- answers to requests that left before the last cut say nothing about the rate after it
  if now - math.max(tonumber(ARGV[3]), tonumber(ARGV[5])) > cut_at then
    local this = math.floor(now / 1000000)
    local used = 0
    if second == this then used = math.max(count, before) elseif second == this - 1 then used = count end
    if used > 0 then rate = math.min(rate, used) end
    base, cut_at = math.max(math.min(1, limit), rate / 2), now
    rate = base
    not_before = math.max(not_before, now + math.min(tonumber(ARGV[4]), LONGEST_PAUSE))
    tat = math.max(tat, not_before)
  end
elseif operation == 'pause' then
  not_before = math.max(not_before, now + math.min(tonumber(ARGV[3]), LONGEST_PAUSE))
end
local interval = 1000000 / rate
local paused = math.max(0, not_before - now)
local answer = {0, 0, math.floor(interval), math.floor(rate * 1000), paused, put_right}

if operation == 'reserve' then
  local start = math.max(tat, not_before, now + tonumber(ARGV[4]))
  local places = math.max(1, math.min(tonumber(ARGV[3]), math.floor(rate * AT_ONCE)))
  answer[2] = math.floor(start - now)
  if start - now <= HORIZON then
    local this = math.floor(now / 1000000)
    if second == this then count = count + places
    else before = (second == this - 1) and count or 0; count = places end
    second, tat = this, start + places * interval
    answer[1] = places
  end
end
if operation ~= 'look' or put_right > 0 or not is_new then  -- a look writes, too: it shows that places can be taken
  local function whole(number) return string.format('%.0f', number) end
  redis.call('HSET', KEYS[1], 'tat', whole(tat), 'not_before', whole(not_before), 'seen', whole(now),
    'second', whole(second), 'count', whole(count), 'before', whole(before))
  if base then redis.call('HSET', KEYS[1], 'base', base, 'cut_at', whole(cut_at))
  else redis.call('HDEL', KEYS[1], 'base', 'cut_at') end
end
redis.call('EXPIRE', KEYS[1], 86400)
return answer
