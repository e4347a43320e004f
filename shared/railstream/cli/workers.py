"""`railstream workers`: which workers live, what each runs, and what waits for them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import typer
from redis.asyncio import Redis

from railstream import job_queues, worker_records
from railstream.cli.columns import columns, duration
from railstream.cli.common_options import AsJson, RedisUrl
from railstream.cli.redis_session import ask_redis
from railstream.local.announced import with_local_redis
from railstream.settings import Settings, load
from railstream.worker_records import SEEN_WITHIN, WorkerRecord

COLUMNS = ("worker", "state", "pool", "running", "slots", "release", "seen")
POOL_COLUMNS = ("pool", "waiting", "running", "workers")


def workers(redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """List the workers, with what each runs, and for each pool what waits. A pool without workers is named.

    A worker that was not seen for 10 s is shown as lost: its jobs are taken over by the others.

    \b
    Examples:
      railstream workers
    """
    settings = with_local_redis(load(Settings, redis_url=redis_url))
    found = ask_redis(settings, "workers", _read)
    if as_json:
        return typer.echo(json.dumps(_as_json(found)))
    typer.echo(columns(COLUMNS, [_cells(one) for one in found.workers]))
    typer.echo("")
    typer.echo(columns(POOL_COLUMNS, [_pool_cells(one) for one in found.pools]))
    for pool in found.pools:
        if not pool.workers:
            typer.echo(
                f"no worker serves pool {pool.name or '(default)'!r}: start one with `railstream worker`", err=True
            )


@dataclass(frozen=True, slots=True)
class Seen:
    """``ago``: seconds since the worker was last seen, by Redis's clock."""

    record: WorkerRecord
    ago: float
    running: int

    @property
    def lives(self) -> bool:
        return self.ago <= SEEN_WITHIN


@dataclass(frozen=True, slots=True)
class PoolState:
    name: str
    waiting: int
    running: int
    workers: int


@dataclass(frozen=True, slots=True)
class Found:
    workers: list[Seen]
    pools: list[PoolState]


async def _read(redis: Redis) -> Found:
    seen = await worker_records.seen(redis)
    names = {*await job_queues.pools(redis), *(record.pool for record, _ in seen)} or {""}
    running: Counter[str] = Counter()
    pools = []
    for name in sorted(names):
        jobs = await job_queues.jobs_of(redis, name)
        running.update(job.consumer for job in jobs if job.consumer)
        taken = sum(bool(job.consumer) for job in jobs)
        living = sum(record.pool == name and ago <= SEEN_WITHIN for record, ago in seen)
        pools.append(PoolState(name, len(jobs) - taken, taken, living))
    return Found([Seen(record, ago, running[record.name]) for record, ago in seen], pools)


def _cells(seen: Seen) -> list[str]:
    record = seen.record
    return [
        record.name,
        "alive" if seen.lives else "lost",
        record.pool or "(default)",
        str(seen.running),
        str(record.slots or ""),
        record.release,
        f"{duration(seen.ago)} ago",
    ]


def _pool_cells(pool: PoolState) -> list[str]:
    return [pool.name or "(default)", str(pool.waiting), str(pool.running), str(pool.workers)]


def _as_json(found: Found) -> dict[str, Any]:
    return {
        "workers": [
            {**asdict(one.record), "alive": one.lives, "seen_ago": one.ago, "running": one.running}
            for one in found.workers
        ],
        "pools": [asdict(pool) for pool in found.pools],
    }
