"""Cancel a request, wherever it is: queued, running, or ended already.

One script decides and writes: it ends the stream of a request that no worker has begun, and tells the worker of one
that runs. A gateway calls it for a client, the command line for an operator.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from redis.asyncio import Redis

from railstream import events, keys, live_frame
from railstream.events import Cancelled
from railstream.topology.repeating import RepeatableScript

READING: Final = """
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

_CANCEL: Final = RepeatableScript(
    live_frame.LUA
    + READING
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
