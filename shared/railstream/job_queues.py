"""The job streams as an operator sees them: which there are, and which requests wait or run in each.

A job holds its request's prompt, and may be large. So its request id is read where it is, by a script, and only the
id leaves Redis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis

from railstream import keys
from railstream.topology.repeating import RepeatableScript

PAGE: Final = 100
"""Jobs that one run of the script reads: it holds Redis up for that long."""

_IDS: Final = RepeatableScript("""
-- KEYS jobs   ARGV after, count, pattern of a request id.  Returns entry, request id or '', ... of the jobs after
local found = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])) do
  local id = ''
  for i = 2, #entry[2], 2 do
    id = string.match(entry[2][i], ARGV[3]) or id
  end
  found[#found + 1] = entry[1]
  found[#found + 1] = id
end
return found
""")
_ID_PATTERN: Final = "chatcmpl%-" + "%x" * 32


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """``consumer``: the worker that has taken it, empty while it waits; ``idle`` in seconds since its last renewal."""

    entry: str
    request_id: str
    pool: str
    consumer: str = ""
    idle: float = 0.0
    deliveries: int = 0


async def pools(redis: Redis) -> list[str]:
    """The pools that have, or had, a queue, the default one (``""``) first."""
    prefix = keys.jobs()
    names = [key.decode() async for key in redis.scan_iter(match=f"{prefix}*", count=1000, _type="stream")]
    return sorted({name.removeprefix(prefix).removeprefix(":") for name in names})


async def jobs_of(redis: Redis, pool: str) -> list[QueuedJob]:
    """The jobs of one pool, the oldest first."""
    taken = await _taken(redis, pool)
    found: list[QueuedJob] = []
    after = "-"
    while True:
        page = await redis.eval(_IDS, 1, keys.jobs(pool), after, PAGE, _ID_PATTERN)
        found += [_job(pool, *pair, taken) for pair in zip(page[::2], page[1::2], strict=True)]
        if len(page) < 2 * PAGE:
            return found
        after = f"({page[-2].decode()}"


def _job(pool: str, entry: bytes, request_id: bytes, taken: dict[bytes, Any]) -> QueuedJob:
    waiting = QueuedJob(entry.decode(), request_id.decode(), pool)
    pending = taken.get(entry)
    if pending is None:
        return waiting
    return QueuedJob(
        waiting.entry,
        waiting.request_id,
        pool,
        consumer=pending["consumer"].decode(),
        idle=pending["time_since_delivered"] / 1000,
        deliveries=pending["times_delivered"],
    )


async def _taken(redis: Redis, pool: str) -> dict[bytes, Any]:
    """The pending entries of the pool's group by id; none where the group has not been made."""
    groups: Sequence[Any] = await redis.xinfo_groups(keys.jobs(pool)) if await redis.exists(keys.jobs(pool)) else []
    group = next((one for one in groups if one["name"] == keys.GROUP.encode()), None)
    if group is None or not group["pending"]:
        return {}
    pending: list[Any] = await redis.xpending_range(keys.jobs(pool), keys.GROUP, "-", "+", group["pending"])
    return {one["message_id"]: one for one in pending}
