-- How many calls a provider's account may be asked to carry now: rate, rest and breaker of the whole fleet.
--
-- One hash per account; every moment is Redis's own, in microseconds, and goes through whole numbers only.
--   tat, bulk_tat    GCRA: when the next slot is free, for anybody and for bulk ("theoretical arrival time")
--   limit            calls a second that the provider says it allows (asked_at: when it was last asked)
--   cut_at, cut_rate when it last told us to slow down, and how fast we were
--   rest_until       when it wants to be asked again
--   fails            failures in a row; open_until, cool, probe_until: the breaker
--   second, calls, calls_before   calls granted in this second and in the one before it
--   rests_at         when one of its destinations was last told to rest; they stand in a sorted set beside it, by the
--                    moment when their rest ends, which lasts as long as the longest of them
--
-- KEYS: accounts in order of preference; see `rest` and `rests` for theirs. ARGV: operation, then its arguments; see
-- `budget.py`.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local SECOND, DAY_MS = 1000000, 86400000
local operation = ARGV[1]

local function whole(number) return string.format('%.0f', number) end

local function read(key)
  local fields = {'tat', 'bulk_tat', 'limit', 'asked_at', 'cut_at', 'cut_rate', 'rest_until', 'fails',
                  'open_until', 'cool', 'probe_until', 'second', 'calls', 'calls_before', 'rests_at'}
  local account = {}
  for i, value in ipairs(redis.call('HMGET', key, unpack(fields))) do account[fields[i]] = tonumber(value) or 0 end
  return account
end

local function write(key, ...)
  redis.call('HSET', key, ...)
  redis.call('PEXPIRE', key, DAY_MS)
end

-- Calls a second it may have now; 0: as many as we like. A negative `configured` holds only until the provider has told
-- its own. After a cut, half of what it was, and a twentieth more each second.
local function rate_of(account, configured)
  local limit = math.abs(configured)
  if account.limit > 0 and (configured <= 0 or account.limit < limit) then limit = account.limit end
  if account.cut_at == 0 then return limit end
  local raised = account.cut_rate * (0.5 + 0.05 * (now - account.cut_at) / SECOND)
  if limit == 0 then return raised > 2 * account.cut_rate and 0 or raised end
  return math.min(limit, raised)
end

-- Microseconds until it is worth asking at all, and whether the next call is a probe.
local function blocked(account)
  if account.rest_until > now then return account.rest_until - now, false end
  if account.open_until == 0 then return 0, false end
  if account.open_until > now then return account.open_until - now, false end
  if account.probe_until > now then return math.min(account.probe_until - now, SECOND / 2), false end
  return 0, true
end

-- take COUNT IS_BULK SHARE HORIZON SLACK PROBE LIMIT…: slots at the first account that is not blocked, no later than
-- HORIZON. A slot that nobody took can be taken for SLACK longer.
-- Answers {index, count, first slot, step, wait, fails (-1: did not look), is it time to ask for the limit, rests_at (0:
-- none)}, in microseconds from now.
if operation == 'take' then
  local wanted, is_bulk, share = tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
  local horizon, slack, probe = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
  local soonest, of = nil, 1
  for i, key in ipairs(KEYS) do
    local account = read(key)
    local wait, is_probe = blocked(account)
    if wait > 0 then
      if soonest == nil or wait < soonest then soonest, of = wait, i end
    else
      local configured = tonumber(ARGV[7 + i])
      local ask = now - account.asked_at > 3600 * SECOND and 1 or 0
      if ask == 1 then write(key, 'asked_at', whole(now - 3540 * SECOND)) end  -- the others' turn in a minute
      local rate = rate_of(account, configured)
      local count, first, step, tat, bulk_tat = wanted, 0, 0, account.tat, account.bulk_tat
      if is_probe then count = 1 end
      if rate > 0 then
        local slot = math.max(now - slack, tat)
        local every = SECOND / rate
        step = every
        if is_bulk then slot, step = math.max(slot, bulk_tat), every / share end
        first = slot - now
        if first > horizon then return {i, 0, 0, 0, whole(first - horizon + 1000), account.fails, ask, 0} end
        count = math.min(count, math.floor((horizon - first) / step) + 1)
        tat = slot + (count - 1) * step + every
        if is_bulk then bulk_tat = slot + count * step end
      end
      local second = math.floor(now / SECOND)
      local before = account.second == second and account.calls_before or account.second == second - 1 and account.calls or 0
      local calls = (account.second == second and account.calls or 0) + count
      write(key, 'tat', whole(tat), 'bulk_tat', whole(bulk_tat), 'second', second, 'calls', calls, 'calls_before', before)
      if is_probe then write(key, 'probe_until', whole(now + probe)) end
      local short = is_probe and SECOND / 2 or first + count * step - horizon
      local later = whole(count < wanted and math.max(short, 1000) or 0)
      return {i, count, whole(first), whole(step), later, account.fails, ask, whole(account.rests_at)}
    end
  end
  return {of, 0, 0, 0, whole(soonest), -1, 0, 0}
end

-- look IS_BULK SHARE LIMIT…: {calls a second in thousandths (-1: any number), microseconds until then}; takes nothing.
if operation == 'look' then
  local soonest = nil
  for i, key in ipairs(KEYS) do
    local account = read(key)
    local wait, is_probe = blocked(account)
    if wait == 0 then
      local rate = rate_of(account, tonumber(ARGV[3 + i]))
      if is_probe then return {1000, 0} end
      if rate == 0 then return {-1, 0} end
      return {whole(rate * 1000 * (ARGV[2] == '1' and tonumber(ARGV[3]) or 1)), 0}
    end
    if soonest == nil or wait < soonest then soonest = wait end
  end
  return {0, whole(soonest)}
end

-- state LIMIT…: of each account, calls a second in thousandths (-1: any number), and whether its breaker is open.
if operation == 'state' then
  local states = {}
  for i, key in ipairs(KEYS) do
    local account = read(key)
    local rate = rate_of(account, tonumber(ARGV[1 + i]))
    states[i] = {rate == 0 and -1 or whole(rate * 1000), account.open_until > 0 and 1 or 0}
  end
  return states
end

-- rest DESTINATION REST MOST: one destination of the account KEYS[1] rests; KEYS[2] holds all that do, MOST at most.
if operation == 'rest' then
  local ends = now + tonumber(ARGV[3])
  if ends <= (tonumber(redis.call('ZSCORE', KEYS[2], ARGV[2])) or 0) then return 0 end
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(now))
  redis.call('ZADD', KEYS[2], whole(ends), ARGV[2])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[4]))
  local longest = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
  redis.call('PEXPIRE', KEYS[2], whole(math.ceil((tonumber(longest) - now) / 1000)))
  write(KEYS[1], 'rests_at', whole(now))
  return 0
end

-- rests: the destinations in KEYS[1] that rest, each followed by the microseconds that are left of it.
if operation == 'rests' then
  local answer = redis.call('ZRANGEBYSCORE', KEYS[1], whole(now), '+inf', 'WITHSCORES')
  for i = 2, #answer, 2 do answer[i] = whole(tonumber(answer[i]) - now) end
  return answer
end

local key = KEYS[1]
local account = read(key)

-- spend COUNT LIMIT: calls that are made whatever it says (a second device of the same delivery); later ones wait.
if operation == 'spend' then
  local rate = rate_of(account, tonumber(ARGV[3]))
  if rate > 0 then write(key, 'tat', whole(math.max(now, account.tat) + tonumber(ARGV[2]) * SECOND / rate)) end
  return 0
end

-- limit CALLS_A_SECOND: what the provider has said.
if operation == 'limit' then
  write(key, 'limit', ARGV[2], 'asked_at', whole(now))
  return 0
end

-- throttled REST LIMIT: it has told us to slow down. Halved at most once a second: one burst is one lesson.
if operation == 'throttled' then
  local rest = tonumber(ARGV[2])
  if now - account.cut_at > SECOND then
    local rate = rate_of(account, tonumber(ARGV[3]))
    if rate == 0 then rate = math.max(account.calls, account.calls_before, 1) end
    write(key, 'cut_at', whole(now), 'cut_rate', string.format('%.6f', math.max(rate, 0.1)))
  end
  write(key, 'rest_until', whole(math.max(account.rest_until, now + rest)))
  return rest
end

-- failed THRESHOLD COOL LONGEST: {for how long nobody asks it any more (0 while the breaker is closed), has it just opened}.
if operation == 'failed' then
  local fails, cool, opens = account.fails + 1, account.cool, 0
  if account.open_until > now then return {whole(account.open_until - now), 0} end
  if account.open_until > 0 then  -- the probe has failed
    cool = math.min(cool * 2, tonumber(ARGV[4]))
  elseif fails >= tonumber(ARGV[2]) then
    cool, opens = tonumber(ARGV[3]), 1
  else
    write(key, 'fails', fails)
    return {0, 0}
  end
  write(key, 'fails', fails, 'cool', whole(cool), 'open_until', whole(now + cool), 'probe_until', 0)
  return {whole(cool), opens}
end

-- succeeded: it answers, so the breaker is closed.
if operation == 'succeeded' then
  redis.call('HDEL', key, 'fails', 'cool', 'open_until', 'probe_until')
  return 0
end

return redis.error_reply('unknown operation ' .. operation)
