"""The scripts that Redis runs for us: once per job or call, never per token.

Each touches the keys of one request only, so it runs on a cluster; each decides and writes in one step, so a
superseded attempt can neither begin, record usage nor end a stream.
"""

from __future__ import annotations

from typing import Final

from railstream import live_frame

GUARD_TTL: Final = 24 * 3600
"""Seconds that the keys of a request live when nobody ever ends it."""

_SINCE: Final = """
-- Milliseconds since which this Redis has forgotten nothing; 0 when it never restarted and was never promoted.
local function since(key)
  local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or ''
  local known = redis.call('HMGET', key, 'id', 'since')
  if known[1] == history then return tonumber(known[2]) end
  local began = 0
  if known[1] then
    local now = redis.call('TIME')
    began = now[1] * 1000 + math.floor(now[2] / 1000)
  end
  redis.call('HSET', key, 'id', history, 'since', began)
  return began
end
"""

NOTE_HISTORY: Final = (
    _SINCE
    + """
-- KEYS history
return since(KEYS[1])
"""
)

RESERVE: Final = (
    live_frame.LUA
    + _SINCE
    + """
-- KEYS events, request, history   ARGV channel, job entry, worker, now, ttl, started, reason, '1' of a first delivery
-- Returns {'fresh', attempt, ms since the job was queued, cancel} | {'takeover', attempt, after, cancel} |
--   {'ended'} | {'duplicate'} | {'forgotten'}: neither a record nor a stream of the request is left
--   {'running', worker}: a group that was made anew delivers what runs already as if it were new
-- A Redis that came back without its last second, or a replica without it, may have forgotten attempts of an older
-- job. Their numbers must not be given again: two generations would share ids. Such a job's next number is the
-- milliseconds between the job and the moment that this Redis took over.
local owner = redis.call('HGET', KEYS[2], 'job')
if owner and owner ~= ARGV[2] then return {'duplicate'} end
if owner and ARGV[8] == '1' and redis.call('HGET', KEYS[2], 'status') == 'running' then
  local worker = redis.call('HGET', KEYS[2], 'owner')
  if worker and worker ~= ARGV[3] then return {'running', worker} end
end
local terminal = {finished = true, blocked = true, failed = true, cancelled = true}
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local least = since(KEYS[3]) - tonumber(string.match(ARGV[2], '^(%d+)-'))
local after
if #last > 0 then
  for i = 1, #last[1][2], 2 do
    if last[1][2][i] == 'event' and terminal[last[1][2][i + 1]] then return {'ended'} end
  end
  after = last[1][1]
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  -- Somebody trimmed it to nothing: its ids still only grow.
  if terminal[redis.call('HGET', KEYS[2], 'status')] then return {'ended'} end
  local about = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then after = about[i + 1] end
  end
end
local reply
if not after then
  if redis.call('EXISTS', KEYS[2]) == 0 then return {'forgotten'} end
  local attempt = math.max(1, least)
  redis.call('XADD', KEYS[1], attempt .. '-0', 'event', 'started', 'data', ARGV[6])
  live(ARGV[1], attempt .. '-0', 'started', ARGV[6])
  local now = redis.call('TIME')
  local queued = tonumber(string.match(ARGV[2], '^(%d+)-'))
  reply = {'fresh', attempt, now[1] * 1000 + math.floor(now[2] / 1000) - queued}
else
  local attempt = math.max(tonumber(string.match(after, '^(%d+)-')) + 1, least)
  local data = cjson.encode({attempt = attempt, after = after, reason = ARGV[7]})
  redis.call('XADD', KEYS[1], attempt .. '-0', 'event', 'restarted', 'data', data)
  live(ARGV[1], attempt .. '-0', 'restarted', data)
  reply = {'takeover', attempt, after}
end
redis.call('HSET', KEYS[2], 'job', ARGV[2], 'status', 'running', 'owner', ARGV[3], 'attempt', reply[2])
redis.call('HSETNX', KEYS[2], 'started', ARGV[4])
for i = 1, 2 do
  if redis.call('TTL', KEYS[i]) < 0 then redis.call('EXPIRE', KEYS[i], ARGV[5]) end
end
local cancel = redis.call('HGET', KEYS[2], 'cancel')
reply[#reply + 1] = cancel or ''
return reply
"""
)

END: Final = (
    live_frame.LUA
    + """
-- KEYS events, request   ARGV channel, id, event, data, now, retention
-- Returns 1, 0 when the fence refused it, or nil when the stream is gone
local added = redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', ARGV[2], 'event', ARGV[3], 'data', ARGV[4])
if type(added) == 'table' and added.err then
  if string.find(added.err, 'equal or smaller') then return 0 end
  return added
end
if not added then return false end
live(ARGV[1], ARGV[2], ARGV[3], ARGV[4])
redis.call('HSET', KEYS[2], 'status', ARGV[3], 'ended', ARGV[5])
redis.call('EXPIRE', KEYS[1], ARGV[6])
redis.call('EXPIRE', KEYS[2], ARGV[6])
return 1
"""
)

KEEP_RUN: Final = """
-- KEYS request   ARGV attempt, run, field.  Keeps the provider's run of an attempt; forgets it when the run is empty
-- Returns 1, or 0 when a later attempt has begun and does not know this run
if redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[1] then
  return redis.call('HGET', KEYS[1], ARGV[3]) == ARGV[2] and 1 or 0
end
if ARGV[2] == '' then redis.call('HDEL', KEYS[1], ARGV[3]) else redis.call('HSET', KEYS[1], ARGV[3], ARGV[2]) end
return 1
"""

OPEN_AGAIN: Final = (
    live_frame.LUA
    + """
-- KEYS events, request   ARGV channel, id, event, data, ttl, field, value, ...
-- The first event of an attempt, for a Redis that has lost it; and the record of its request, if that is lost too
-- Returns 1, or 0 when the event is there, or when a later one is
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('HSET', KEYS[2], unpack(ARGV, 6))
  redis.call('EXPIRE', KEYS[2], ARGV[5])
end
local added = redis.pcall('XADD', KEYS[1], ARGV[2], 'event', ARGV[3], 'data', ARGV[4])
if type(added) == 'table' and added.err then
  if string.find(added.err, 'equal or smaller') then return 0 end
  return added
end
live(ARGV[1], ARGV[2], ARGV[3], ARGV[4])
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[5]) end
return 1
"""
)

FAIL: Final = (
    live_frame.LUA
    + """
-- KEYS events, request   ARGV channel, data of failed, now, retention, job entry
-- Ends the stream of a job that no attempt runs. Returns 1, or 0 when it has ended, or another entry of it is run
local owner = redis.call('HGET', KEYS[2], 'job')
if owner and owner ~= ARGV[5] then return 0 end
local terminal = {finished = true, blocked = true, failed = true, cancelled = true}
local attempt = 1
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if #last > 0 then
  for i = 1, #last[1][2], 2 do
    if last[1][2][i] == 'event' and terminal[last[1][2][i + 1]] then return 0 end
  end
  attempt = tonumber(string.match(last[1][1], '^(%d+)-')) + 1
end
redis.call('XADD', KEYS[1], attempt .. '-0', 'event', 'failed', 'data', ARGV[2])
live(ARGV[1], attempt .. '-0', 'failed', ARGV[2])
redis.call('HSET', KEYS[2], 'status', 'failed', 'ended', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 1
"""
)

RENEW: Final = """
-- KEYS jobs   ARGV group, consumer, entry ids.  Renews only what is still ours: 1 renewed, 0 another's, -1 not pending
local states = {}
for i = 3, #ARGV do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if #pending == 0 then
    states[i - 2] = -1
  elseif pending[1][2] ~= ARGV[2] then
    states[i - 2] = 0
  else
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
    states[i - 2] = 1
  end
end
return states
"""

FORGET_CONSUMER: Final = """
-- KEYS jobs   ARGV group, consumer.  Removes a consumer with nothing pending; returns 1 when it did
for _, about in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local of = {}
  for i = 1, #about, 2 do of[about[i]] = about[i + 1] end
  if of.name == ARGV[2] and of.pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
    return 1
  end
end
return 0
"""
