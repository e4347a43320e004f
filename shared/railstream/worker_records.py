"""The records of the workers: which live, which pool each serves, and which jobs it understands.

A worker writes its record, and which jobs it runs, with every renewal of its claims. All times are of Redis's clock,
so that hosts whose clocks differ agree on who lives. A record of a dead worker expires; its place in the set is removed
by the living.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis

from railstream import keys
from railstream.topology.repeating import RepeatableScript

SEEN_WITHIN: Final = 10.0
"""Seconds: a worker that was seen since is alive."""
KEPT: Final = 60
"""Seconds that a dead worker is remembered."""
FIELDS: Final = ("pool", "version", "slots", "release")
"""Of the hash of a worker."""

_BEAT: Final = """
-- KEYS workers   ARGV name.  Notes that a worker lives now
local now = redis.call('TIME')
return redis.call('ZADD', KEYS[1], now[1] .. '.' .. string.format('%06d', now[2]), ARGV[1])
"""
_LIVING: Final = """
-- KEYS workers   ARGV seconds.  The names of those seen since
return redis.call('ZRANGEBYSCORE', KEYS[1], redis.call('TIME')[1] - ARGV[1], '+inf')
"""
_SEEN: Final = RepeatableScript("""
-- KEYS workers   ARGV name, seconds.  Whether a worker was seen since
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
return score and tonumber(score) >= redis.call('TIME')[1] - ARGV[2] and 1 or 0
""")
_FORGET: Final = """
-- KEYS workers   ARGV seconds.  Removes those not seen since
return redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', redis.call('TIME')[1] - ARGV[1])
"""


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """``version`` is the latest of the jobs that it understands; 0 for a release that wrote no such record."""

    name: str
    pool: str = ""
    version: int = 0
    slots: int = 0
    """Generations that it runs at once; 0 when it does not say."""
    release: str = ""
    """The version of the distribution that it runs."""


async def write(redis: Redis, record: WorkerRecord, running: Iterable[bytes] | None = None) -> None:
    """Note that the worker lives, and, if they are given, the entries of the jobs that it runs.

    Raises:
        redis.RedisError: also when Redis takes no writes now.
    """
    pipeline = redis.pipeline(transaction=False)
    pipeline.eval(_BEAT, 1, keys.WORKERS, record.name)
    told = {} if running is None else {"jobs": b" ".join(running)}
    pipeline.hset(keys.worker(record.name), mapping=_fields(record) | told)
    pipeline.expire(keys.worker(record.name), KEPT)
    await pipeline.execute()


def _fields(record: WorkerRecord) -> dict[Any, Any]:
    return {name: getattr(record, name) for name in FIELDS}


async def living(redis: Redis, within: float = SEEN_WITHIN) -> list[WorkerRecord]:
    """All workers that were seen in the last ``within`` seconds."""
    names = [name.decode() for name in await redis.eval(_LIVING, 1, keys.WORKERS, within)]
    pipeline = redis.pipeline(transaction=False)
    for name in names:
        pipeline.hmget(keys.worker(name), FIELDS)
    answers = await pipeline.execute() if names else []
    return [_record(name, fields) for name, fields in zip(names, answers, strict=True)]


async def seen(redis: Redis) -> list[tuple[WorkerRecord, float]]:
    """All workers that are remembered, each with the seconds since it was last seen, by name."""
    found: list[Any] = await redis.zrange(keys.WORKERS, 0, -1, withscores=True)
    seconds, microseconds = await redis.time()
    now = seconds + microseconds / 1_000_000
    records = {record.name: record for record in await living(redis, within=now)}
    return sorted(
        ((records.get(name.decode(), WorkerRecord(name.decode())), max(0.0, now - score)) for name, score in found),
        key=lambda one: one[0].name,
    )


def _record(name: str, fields: Sequence[Any]) -> WorkerRecord:
    pool, version, slots, release = fields
    return WorkerRecord(name, (pool or b"").decode(), int(version or 0), int(slots or 0), (release or b"").decode())


async def runs(redis: Redis, name: str, entry: str) -> bool:
    """Whether a living worker runs the job of this entry. One of a release that did not tell is taken to run it."""
    if not name or not await redis.eval(_SEEN, 1, keys.WORKERS, name, SEEN_WITHIN):
        return False
    running = await redis.hget(keys.worker(name), "jobs")
    return running is None or entry.encode() in running.split()


def serving(workers: Iterable[WorkerRecord], pool: str) -> list[WorkerRecord]:
    """Those that run the jobs of a pool. A worker of a release that told neither pool nor version may serve any."""
    return [worker for worker in workers if worker.pool == pool or worker.version == 0]


async def remove(redis: Redis, name: str) -> None:
    """The worker stops."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.zrem(keys.WORKERS, name)
    pipeline.delete(keys.worker(name))
    await pipeline.execute()


async def forget_dead(redis: Redis, within: float = KEPT) -> None:
    """Remove the workers that were not seen in the last ``within`` seconds from the set."""
    await redis.eval(_FORGET, 1, keys.WORKERS, within)
