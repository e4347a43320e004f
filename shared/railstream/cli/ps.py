"""`railstream ps`: the requests that wait and run now, of every client."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from redis.asyncio import Redis

from railstream import job_queues, request_states
from railstream.cli.columns import columns, duration
from railstream.cli.common_options import AsJson, RedisUrl
from railstream.cli.redis_session import ask_redis
from railstream.job_queues import QueuedJob
from railstream.local.announced import with_local_redis
from railstream.request_states import RequestState
from railstream.settings import Settings, load

COLUMNS = ("id", "status", "kind", "model", "config", "pool", "key", "attempt", "worker", "age", "running")


def ps(
    every: Annotated[bool, typer.Option("--all", "-a", help="Also those that have ended and are still kept.")] = False,
    pool: Annotated[str | None, typer.Option(metavar="POOL", help="Only those of this worker pool.")] = None,
    limit: Annotated[int, typer.Option(metavar="REQUESTS", min=1, help="Show so many at most.")] = 100,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """List the requests that wait and run now, the oldest first, with their worker. No content is shown.

    `age` counts from the request's arrival, `running` from the start of its first attempt. --all reads every key of
    the Redis, and shows the newest first.

    \b
    Examples:
      railstream ps
      railstream ps --all --json | jq '.requests[] | select(.status == "failed") | .id'
    """
    settings = with_local_redis(load(Settings, redis_url=redis_url))
    listing = ask_redis(settings, "ps", lambda redis: _listing(redis, every=every, pool=pool))
    shown = listing.rows[:limit]
    if as_json:
        return typer.echo(json.dumps({"total": len(listing.rows), "requests": [_as_json(row) for row in shown]}))
    typer.echo(columns(COLUMNS, [_cells(row, listing.now) for row in shown]))
    if len(listing.rows) > limit:
        typer.echo(f"{len(listing.rows) - limit} more; --limit shows more of them", err=True)


@dataclass(frozen=True, slots=True)
class Row:
    """``job``: where its job is in the queue, while it is there."""

    state: RequestState
    job: QueuedJob | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    rows: list[Row]
    now: float


async def _listing(redis: Redis, *, every: bool, pool: str | None) -> Listing:
    pools = await job_queues.pools(redis) if pool is None else [pool]
    jobs = [job for name in pools for job in await job_queues.jobs_of(redis, name) if job.request_id]
    queued = {job.request_id: job for job in jobs}
    ids = await request_states.kept(redis) if every else sorted(queued)
    rows = [Row(state, queued.get(state.id)) for state in await request_states.read(redis, ids)]
    if not every:
        rows = [row for row in rows if not row.state.is_over]
    if pool is not None:
        rows = [row for row in rows if row.state.pool == pool]
    return Listing(rows, time.time())


def _cells(row: Row, now: float) -> list[str]:
    state = row.state
    end = state.ended or now
    return [
        state.id,
        _status(state),
        state.kind,
        state.model,
        "+".join(state.configs),
        state.pool,
        state.tenant,
        str(state.attempt or ""),
        row.job.consumer if row.job and row.job.consumer else state.owner,
        duration(now - state.created) if state.created else "",
        duration(end - state.started) if state.started else "",
    ]


def _status(state: RequestState) -> str:
    return "cancelling" if state.cancel and not state.is_over else state.status


def _as_json(row: Row) -> dict[str, Any]:
    deliveries = row.job.deliveries if row.job else None
    return asdict(row.state) | {"status": _status(row.state), "deliveries": deliveries}
