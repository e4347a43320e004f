"""The scripts of the Redis store: each decides and writes in one step, on the four keys of one session.

KEYS, in all of them: session, messages, branches, refs. A branch is one field of ``branches``: the ids of its
messages, joined by spaces. ``refs`` counts on how many branches a message is; at none it is deleted. While a flow
writes on a branch, ``turns:<branch>`` of the session holds its attempt, and question and answer of each operation.
"""

from __future__ import annotations

from typing import Final

from railstream.topology.repeating import RepeatableScript

_COMMON: Final = """
local function owned(tenant) return redis.call('HGET', KEYS[1], 'tenant') == tenant end
local function ids_of(branch)
  local packed = redis.call('HGET', KEYS[3], branch)
  if not packed then return nil end
  local ids = {}
  for id in string.gmatch(packed, '%S+') do ids[#ids + 1] = id end
  return ids
end
local function keep(branch, ids) redis.call('HSET', KEYS[3], branch, table.concat(ids, ' ')) end
local function release(id)
  if redis.call('HINCRBY', KEYS[4], id, -1) <= 0 then
    redis.call('HDEL', KEYS[2], id)
    redis.call('HDEL', KEYS[4], id)
  end
end
local function add(ids, data)
  local id = 'm' .. redis.call('HINCRBY', KEYS[1], 'next', 1)
  redis.call('HSET', KEYS[2], id, data)
  redis.call('HSET', KEYS[4], id, 1)
  ids[#ids + 1] = id
  return id
end
local function touch(now, age)
  redis.call('HSET', KEYS[1], 'updated', now)
  for i = 1, 4 do redis.call('EXPIRE', KEYS[i], age) end
end
local function forget(branch)
  redis.call('HDEL', KEYS[1], 'writer:' .. branch, 'since:' .. branch, 'answer:' .. branch, 'branch:' .. branch)
  redis.call('HDEL', KEYS[1], 'turns:' .. branch)
end
local function writes(branch, request) return redis.call('HGET', KEYS[1], 'writer:' .. branch) == request end
local function turns_of(branch)
  local kept = redis.call('HGET', KEYS[1], 'turns:' .. branch)
  return kept and cjson.decode(kept) or {attempt = 0, of = {}}
end
local function keep_turns(branch, turns) redis.call('HSET', KEYS[1], 'turns:' .. branch, cjson.encode(turns)) end
local function place_of(ids, wanted)
  for place, id in ipairs(ids) do
    if id == wanted then return place end
  end
end
local function replace(id, data)
  if redis.call('HEXISTS', KEYS[2], id) == 1 then redis.call('HSET', KEYS[2], id, data) end
end
local function about(branch, origin, at, now)
  redis.call('HSET', KEYS[1], 'branch:' .. branch, cjson.encode({origin = origin, at = at, created = tonumber(now)}))
end
"""

CREATE: Final = (
    _COMMON
    + """
-- ARGV tenant, branch, now, age, name, metadata
if redis.call('HSETNX', KEYS[1], 'tenant', ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'created', ARGV[3], 'name', ARGV[5], 'metadata', ARGV[6])
keep(ARGV[2], {})
about(ARGV[2], '', '', ARGV[3])
touch(ARGV[3], ARGV[4])
return 1
"""
)

CHANGE: Final = RepeatableScript(
    _COMMON
    + """
-- ARGV tenant, now, age, field, value, ...
if not owned(ARGV[1]) then return 'no session' end
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
touch(ARGV[2], ARGV[3])
return 'ok'
"""
)

FORK: Final = (
    _COMMON
    + """
-- ARGV tenant, name, origin, at, now, age, most branches
if not owned(ARGV[1]) then return 'no session' end
if redis.call('HEXISTS', KEYS[3], ARGV[2]) == 1 then return 'exists' end
if redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[7]) then return 'full' end
local forked, at = {}, ''
if ARGV[3] ~= '' then
  local ids = ids_of(ARGV[3])
  if not ids then return 'no branch' end
  local found = ARGV[4] == ''
  for _, id in ipairs(ids) do
    forked[#forked + 1] = id
    at = id
    if id == ARGV[4] then found = true break end
  end
  if not found then return 'no message' end
end
for _, id in ipairs(forked) do redis.call('HINCRBY', KEYS[4], id, 1) end
keep(ARGV[2], forked)
about(ARGV[2], ARGV[3], at, ARGV[5])
touch(ARGV[5], ARGV[6])
return 'ok'
"""
)

RENAME: Final = (
    _COMMON
    + """
-- ARGV tenant, name, to, over, now, age
if not owned(ARGV[1]) then return 'no session' end
local ids = ids_of(ARGV[2])
if not ids then return 'no branch' end
if ARGV[2] == ARGV[3] then return 'ok' end
if redis.call('HEXISTS', KEYS[3], ARGV[3]) == 1 then return 'exists' end
local writer = redis.call('HGET', KEYS[1], 'writer:' .. ARGV[2])
if writer and writer ~= ARGV[4] then return 'busy ' .. writer end
local own = redis.call('HGET', KEYS[1], 'branch:' .. ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[2])
forget(ARGV[2])
keep(ARGV[3], ids)
redis.call('HSET', KEYS[1], 'branch:' .. ARGV[3], own)
for _, other in ipairs(redis.call('HKEYS', KEYS[3])) do
  local told = cjson.decode(redis.call('HGET', KEYS[1], 'branch:' .. other))
  if told.origin == ARGV[2] then about(other, ARGV[3], told.at, told.created) end
end
touch(ARGV[5], ARGV[6])
return 'ok'
"""
)

DELETE_BRANCH: Final = (
    _COMMON
    + """
-- ARGV tenant, name
if not owned(ARGV[1]) then return 'no session' end
local ids = ids_of(ARGV[2])
if not ids then return 'no branch' end
redis.call('HDEL', KEYS[3], ARGV[2])
forget(ARGV[2])
for _, id in ipairs(ids) do release(id) end
return 'ok'
"""
)

BEGIN: Final = RepeatableScript(
    _COMMON
    + """
-- ARGV tenant, branch, request, over, create, now, age, most messages, message, ...
if redis.call('EXISTS', KEYS[1]) == 0 and ARGV[5] == '1' then
  redis.call('HSET', KEYS[1], 'tenant', ARGV[1], 'created', ARGV[6], 'name', '', 'metadata', '{}')
  keep(ARGV[2], {})
  about(ARGV[2], '', '', ARGV[6])
end
if not owned(ARGV[1]) then return 'no session' end
local branch = ARGV[2]
local ids = ids_of(branch)
if not ids then return 'no branch' end
local writer = redis.call('HGET', KEYS[1], 'writer:' .. branch)
if writer == ARGV[3] then return 'ok' end
if writer and writer ~= ARGV[4] then return 'busy ' .. writer end
while #ids > 0 and #ids + #ARGV - 8 > tonumber(ARGV[8]) do release(table.remove(ids, 1)) end
redis.call('HSET', KEYS[1], 'writer:' .. branch, ARGV[3], 'since:' .. branch, #ids)
redis.call('HDEL', KEYS[1], 'answer:' .. branch, 'turns:' .. branch)
for i = 9, #ARGV do add(ids, ARGV[i]) end
keep(branch, ids)
touch(ARGV[6], ARGV[7])
return 'ok'
"""
)

REWRITE: Final = RepeatableScript(
    _COMMON
    + """
-- ARGV branch, request, place in the turn, message, ...
if not writes(ARGV[1], ARGV[2]) then return 0 end
local ids, since = ids_of(ARGV[1]), tonumber(redis.call('HGET', KEYS[1], 'since:' .. ARGV[1]))
for i = 3, #ARGV, 2 do
  local id = ids[since + tonumber(ARGV[i]) + 1]
  if id then replace(id, ARGV[i + 1]) end
end
return 1
"""
)

ABANDON: Final = RepeatableScript(
    _COMMON
    + """
-- ARGV branch, request
if not writes(ARGV[1], ARGV[2]) then return 0 end
if redis.call('HEXISTS', KEYS[1], 'answer:' .. ARGV[1]) == 1 then return 0 end
local ids, since = ids_of(ARGV[1]), tonumber(redis.call('HGET', KEYS[1], 'since:' .. ARGV[1]))
while #ids > since do release(table.remove(ids)) end
keep(ARGV[1], ids)
redis.call('HDEL', KEYS[1], 'writer:' .. ARGV[1], 'since:' .. ARGV[1])
return 1
"""
)

END: Final = RepeatableScript(
    _COMMON
    + """
-- ARGV branch, request, attempt, answer, now, age.  An attempt's answer gives way to a later one's
if not writes(ARGV[1], ARGV[2]) then return 0 end
local kept = redis.call('HGET', KEYS[1], 'answer:' .. ARGV[1])
local id
if kept then
  local by
  id, by = string.match(kept, '^(%S+) (%d+)$')
  if tonumber(by) > tonumber(ARGV[3]) then return 0 end
  replace(id, ARGV[4])
else
  local ids = ids_of(ARGV[1])
  id = add(ids, ARGV[4])
  keep(ARGV[1], ids)
end
redis.call('HSET', KEYS[1], 'answer:' .. ARGV[1], id .. ' ' .. ARGV[3])
touch(ARGV[5], ARGV[6])
return 1
"""
)

BEGIN_OPERATION: Final = (
    _COMMON
    + """
-- ARGV branch, request, attempt, operation, question, now, age, most messages
local ids = ids_of(ARGV[1])
if not ids then return 'no branch' end
local turns, attempt = turns_of(ARGV[1]), tonumber(ARGV[3])
if not writes(ARGV[1], ARGV[2]) or turns.attempt > attempt then return 0 end
turns.attempt = attempt
local own = turns.of[ARGV[4]]
if own then
  replace(own.question, ARGV[5])
else
  while #ids > 0 and #ids + 1 > tonumber(ARGV[8]) do release(table.remove(ids, 1)) end
  turns.of[ARGV[4]] = {question = add(ids, ARGV[5])}
  keep(ARGV[1], ids)
end
keep_turns(ARGV[1], turns)
touch(ARGV[6], ARGV[7])
return 1
"""
)

RESUME_OPERATIONS: Final = (
    _COMMON
    + """
-- ARGV branch, request, attempt, operation that has begun, ...
local turns, attempt = turns_of(ARGV[1]), tonumber(ARGV[3])
if not writes(ARGV[1], ARGV[2]) or turns.attempt > attempt then return 0 end
turns.attempt = attempt
local begun, kept, ids = {}, {}, ids_of(ARGV[1])
for i = 4, #ARGV do begun[ARGV[i]] = true end
for operation, own in pairs(turns.of) do
  if begun[operation] then
    kept[operation] = own
  else
    for _, id in pairs(own) do
      local place = place_of(ids, id)
      if place then release(table.remove(ids, place)) end
    end
  end
end
turns.of = kept
keep(ARGV[1], ids)
keep_turns(ARGV[1], turns)
return 1
"""
)

END_OPERATION: Final = RepeatableScript(
    _COMMON
    + """
-- ARGV branch, request, attempt, operation, answer, now, age.  It stands behind its question
local turns, attempt = turns_of(ARGV[1]), tonumber(ARGV[3])
local own = turns.of[ARGV[4]]
if not own or not writes(ARGV[1], ARGV[2]) or turns.attempt > attempt then return 0 end
turns.attempt = attempt
if own.answer then
  replace(own.answer, ARGV[5])
else
  local ids = ids_of(ARGV[1])
  local place = place_of(ids, own.question) or #ids
  own.answer = add(ids, ARGV[5])
  table.insert(ids, place + 1, table.remove(ids))
  keep(ARGV[1], ids)
end
keep_turns(ARGV[1], turns)
touch(ARGV[6], ARGV[7])
return 1
"""
)

HISTORY: Final = RepeatableScript(
    _COMMON
    + """
-- ARGV branch, request, operation.  The ids before this turn
local ids = ids_of(ARGV[1])
if not ids then return {} end
if writes(ARGV[1], ARGV[2]) then
  local before
  if ARGV[3] == '' then
    before = tonumber(redis.call('HGET', KEYS[1], 'since:' .. ARGV[1]))
  else
    local own = turns_of(ARGV[1]).of[ARGV[3]]
    before = own and (place_of(ids, own.question) or 1) - 1
  end
  if before then
    for place = #ids, before + 1, -1 do ids[place] = nil end
  end
end
return ids
"""
)
