"""What Redis knows of one request besides its events: the request hash, and the scripts that change it.

The scripts touch the keys of one request only, and decide and write in one step: a gateway never revives a hash
that has expired, and never ends a stream that a worker has begun.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from railstream import events, keys, live_frame, requests
from railstream.errors import RequestNotFoundError
from railstream.events import Cancelled
from railstream.ids import is_request_id
from railstream.requests import ENDED, Record
from railstream.topology.repeating import RepeatableScript
from redis.asyncio import Redis

OPERATION_AGE: Final = 60
"""Seconds that the token of a change of readers is known: a repeat after a broken connection comes at once."""

_READING: Final = """
-- The gateways that have readers of a request: one field each, so that a dead one's can be told from the others'
local function reading(key)
  local names = {}
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local name = string.match(field, '^readers:(.*)$')
    if name then names[#names + 1] = name end
  end
  return names
end
"""

_READERS: Final = RepeatableScript(
    _READING
    + """
-- KEYS request, token of this change   ARGV change, policy, gateway, seconds that the token is known
-- Returns {status, policy, gateway with readers, ...}; nothing when there is no such request
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'on_disconnect', ARGV[2]) end
local own = 'readers:' .. ARGV[3]
if ARGV[1] ~= '0' and redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[4]) then
  if redis.call('HINCRBY', KEYS[1], own, ARGV[1]) <= 0 then redis.call('HDEL', KEYS[1], own) end
  redis.call('HINCRBY', KEYS[1], 'readers', ARGV[1])
end
local told = redis.call('HMGET', KEYS[1], 'status', 'on_disconnect')
for _, name in ipairs(reading(KEYS[1])) do told[#told + 1] = name end
return told
"""
)

_CANCEL: Final = RepeatableScript(
    live_frame.LUA
    + _READING
    + """
-- KEYS events, request   ARGV cancel channel, id, reason, live channel, event data, now, retention, only when unread,
--                             gateway whose readers do not count, ...
-- Returns 1 when this is the first to ask; 0 when there is no such request, it has ended, or it is read again
local status = redis.call('HGET', KEYS[2], 'status')
if status ~= 'queued' and status ~= 'running' then return 0 end
if ARGV[8] == '1' then
  local dead = {}
  for i = 9, #ARGV do dead[ARGV[i]] = true end
  for _, name in ipairs(reading(KEYS[2])) do
    if not dead[name] then return 0 end
  end
end
local first = redis.call('HSETNX', KEYS[2], 'cancel', ARGV[3])
redis.call('PUBLISH', ARGV[1], ARGV[2])
if status == 'running' then return first end
local added = redis.pcall('XADD', KEYS[1], '0-1', 'event', 'cancelled', 'data', ARGV[5])
if type(added) == 'table' and added.err then return first end
live(ARGV[4], '0-1', 'cancelled', ARGV[5])
redis.call('HSET', KEYS[2], 'status', 'cancelled', 'ended', ARGV[6])
redis.call('EXPIRE', KEYS[1], ARGV[7])
redis.call('EXPIRE', KEYS[2], ARGV[7])
return first
"""
)


async def load(redis: Redis, request_id: str, tenant: str) -> Record:
    """Raises `RequestNotFoundError` alike for what is unknown, expired, and somebody else's."""
    fields: dict[Any, Any] = {}
    if is_request_id(request_id):
        fields = await redis.hgetall(keys.request(request_id))
    record = requests.decode(request_id, fields)
    if record is None or record.tenant != tenant:
        raise RequestNotFoundError(f"there is no request {request_id[:80]!r} here, or it has expired", param="id")
    return record


@dataclass(frozen=True, slots=True)
class Readers:
    """Who reads a request. ``gateways`` are those that have readers of it, as far as they have told."""

    gateways: tuple[str, ...] = ()
    running: bool = False
    policy: str = ""


async def count_reader(redis: Redis, request_id: str, gateway: str, change: int, policy: str = "") -> Readers:
    """Add to a gateway's readers of a request, and perhaps set its policy."""
    token = keys.change_of_readers(request_id, secrets.token_hex(8))
    given = (change, policy, gateway, OPERATION_AGE)
    answer = await redis.eval(_READERS, 2, keys.request(request_id), token, *given)
    if not answer:
        return Readers()
    status, kept, *gateways = answer
    running = status is not None and status.decode() not in ENDED
    return Readers(tuple(name.decode() for name in gateways), running, (kept or b"").decode())


async def cancel(
    redis: Redis,
    request_id: str,
    *,
    reason: str,
    retention: float,
    only_unread: bool = False,
    dead: Collection[str] = (),
) -> bool:
    """Ask for a cancel, and end a stream that no worker has begun. True for the first who asks.

    ``only_unread``: unless somebody reads it, on another gateway than those that are ``dead``.
    """
    _, data = events.encode(Cancelled(reason=reason))
    first = await redis.eval(
        _CANCEL,
        2,
        keys.events(request_id),
        keys.request(request_id),
        keys.CANCEL_CHANNEL,
        request_id,
        reason,
        keys.live(request_id),
        data,
        f"{time.time():.3f}",
        max(1, round(retention)),
        "1" if only_unread else "0",
        *dead,
    )
    return bool(first)
