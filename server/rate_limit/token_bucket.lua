-- Takes tokens from one or more buckets, all or none, and reads further keys in the same round trip.
--
-- KEYS  the buckets first, then any keys whose values the caller wants beside the verdict, then the lock if there is one
-- ARGV  number of buckets; 1 to take or 0 to look only; then for each bucket: capacity in tokens,
--       refill in tokens per millisecond, cost in tokens; then, if there, how the value of the first further key
--       begins in the caller's copy of it: when it still begins like that, only this beginning is sent; then, if the
--       last key is a lock, for how many ms it is taken when the first further key has no value and nobody holds it;
--       last the number of the question, which the reply repeats
-- Reply  the number of the question, allowed (1 or 0), now in ms, tokens left in each bucket as text, then the values read, then '1' for a lock taken
--
-- A bucket is the text "tokens:milliseconds". Anything else, a missing or a foreign value included,
-- counts as a full bucket and is replaced. Time is the server's own, so that callers whose clocks
-- differ share one. Numbers become text through string.format: tostring() keeps 14 digits only, and a
-- number in a reply loses its fraction.

local buckets = tonumber(ARGV[1])
local take = ARGV[2] == '1'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local values = redis.call('MGET', unpack(KEYS, 1, buckets))

local left = {}
local allowed = 1
for i = 1, buckets do
    local capacity = tonumber(ARGV[3 * i])
    local refill = tonumber(ARGV[3 * i + 1])
    local cost = tonumber(ARGV[3 * i + 2])
    local tokens, since = string.match(values[i] or '', '^(%d+%.%d+):(%d+)$')
    if tokens then
        -- A clock that was set back must not take tokens away, hence never a negative time.
        local elapsed = math.max(0, now - tonumber(since))
        tokens = math.min(capacity, tonumber(tokens) + elapsed * refill)
    else
        tokens = capacity
    end
    if tokens < cost then
        allowed = 0
    end
    left[i] = tokens
end

local reply = { ARGV[#ARGV], allowed, now }
for i = 1, buckets do
    if take then
        local capacity = tonumber(ARGV[3 * i])
        local refill = tonumber(ARGV[3 * i + 1])
        if allowed == 1 then
            left[i] = left[i] - tonumber(ARGV[3 * i + 2])
        end
        -- A bucket that has had the time to fill is forgotten: its absence means the same.
        local until_full = math.ceil((capacity - left[i]) / refill)
        redis.call('SET', KEYS[i], string.format('%.6f:%.0f', left[i], now), 'PX', string.format('%.0f', until_full + 1000))
    end
    reply[#reply + 1] = string.format('%.6f', left[i])
end
local known = ARGV[3 * buckets + 3]
local lock_ms = #ARGV > 3 * buckets + 4 and ARGV[3 * buckets + 4]
local first = #reply + 1
for i = buckets + 1, #KEYS - (lock_ms and 1 or 0) do
    local value = false
    if known ~= '' and redis.pcall('GETRANGE', KEYS[i], 0, #known - 1) == known then
        value = known
    else
        value = redis.call('MGET', KEYS[i])[1]
    end
    known = ''
    reply[#reply + 1] = value
end
if lock_ms then
    local is_ours = allowed == 1 and not reply[first] and redis.call('SET', KEYS[#KEYS], '1', 'NX', 'PX', lock_ms)
    reply[#reply + 1] = is_ours and '1'
end
return reply
