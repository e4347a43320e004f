"""The dead letters: jobs that failed their last delivery, with the reason, until somebody retries or drops them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from railstream import job as jobs
from railstream import keys
from railstream.errors import RailstreamError
from railstream.ids import new_request_id
from railstream.job import Job

MOST: Final = 10_000
"""Dead jobs kept; the oldest go first."""
DATA: Final = "__data__"
"""The field of a job stream's entry that holds the message."""
REQUEST_AGE: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """``job`` is the encoded job; ``None`` when what was found in the queue is none. ``at`` in unix seconds."""

    id: str
    request_id: str
    reason: str
    deliveries: int
    at: float
    pool: str
    job: bytes


async def bury(redis: Redis, *, job: bytes, request_id: str, pool: str, deliveries: int, reason: str) -> None:
    """Keep a job that no worker will be given any more."""
    fields: dict[Any, Any] = {
        "job": job,
        "request": request_id,
        "pool": pool,
        "deliveries": deliveries,
        "reason": reason,
        "at": f"{time.time():.3f}",
    }
    await redis.xadd(keys.DEAD, fields, maxlen=MOST, approximate=True)


async def dead_letters(redis: Redis, letter_id: str | None = None) -> list[DeadLetter]:
    """All of them, oldest first, or the one of that id."""
    entries: list[Any] = await redis.xrange(keys.DEAD, letter_id or "-", letter_id or "+") or []
    return [_letter(entry.decode(), fields) for entry, fields in entries]


def _letter(letter_id: str, fields: dict[bytes, bytes]) -> DeadLetter:
    return DeadLetter(
        id=letter_id,
        request_id=fields[b"request"].decode(),
        reason=fields[b"reason"].decode(errors="replace"),
        deliveries=int(fields[b"deliveries"]),
        at=float(fields[b"at"]),
        pool=fields.get(b"pool", b"").decode(),
        job=fields[b"job"],
    )


async def retry(redis: Redis, letter: DeadLetter) -> str:
    """Queue the job once more, as a new request: the stream of the old one has ended. Returns the new request id.

    Raises:
        RailstreamError: it is no job, so no worker could ever run it.
    """
    try:
        old = jobs.decode(letter.job)
    except ValueError as error:
        raise RailstreamError(f"dead letter {letter.id} is no job and cannot be retried: {error}") from error
    job = msgspec.structs.replace(old, id=new_request_id(), created=time.time())
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.hset(keys.request(job.id), mapping=request_fields(job))
        pipeline.expire(keys.request(job.id), REQUEST_AGE)
        # A message without an envelope is read as it is: its job is the whole of it.
        pipeline.xadd(keys.jobs(letter.pool), {DATA: jobs.encode(job)})
        await pipeline.execute()
    await drop(redis, letter)
    return job.id


async def drop(redis: Redis, letter: DeadLetter) -> None:
    await redis.xdel(keys.DEAD, letter.id)


def request_fields(job: Job) -> dict[Any, Any]:
    """What a request's hash holds while it is queued."""
    return {
        "status": "queued",
        "model": job.model,
        "configs": msgspec.json.encode(job.configs),
        "tenant": job.tenant,
        "created": f"{job.created:.3f}",
        "stream": "1" if job.stream else "0",
        "include_usage": "1" if job.include_usage else "0",
        "on_disconnect": "continue",
        "traceparent": job.traceparent,
    }
