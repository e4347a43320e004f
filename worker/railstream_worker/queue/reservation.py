"""Begin an attempt: one script decides whether this worker may run the job, and writes the attempt's first event.

First the write, then the read: from the moment the reservation stands, whatever an older attempt still sends is
refused, so what is read after it is all that was ever released.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from railstream import events, keys
from railstream.events import Failed
from railstream.ids import START, EventId, parse_event_id, partition_of
from railstream.job import Job
from redis.asyncio import Redis

from railstream_worker.queue.scripts import FAIL, GUARD_TTL, NOTE_HISTORY, RESERVE


@dataclass(frozen=True, slots=True)
class Reservation:
    """``attempt`` is 0 when there is nothing to run: the job has ended, this is a second entry of it, or
    (``forgotten``) neither a record nor a stream of the request is left."""

    attempt: int
    after: EventId = START
    cancelled: str = ""
    """The cancel reason, when somebody had asked before the attempt began."""
    opening: tuple[bytes, bytes] = (b"", b"")
    takeover: bool = False
    waited: float = 0.0
    """Seconds from the moment the job was queued to a first attempt, by Redis's clock."""
    forgotten: bool = False
    running_on: str = ""
    """The worker that runs the job already."""


async def reserve(
    redis: Redis, job: Job, entry: bytes, *, worker: str, reason: str, first: bool = False
) -> Reservation:
    """Reserve the next attempt.

    Args:
        reason: what a ``restarted`` event says, if this is a takeover.
        first: whether the queue delivers the entry for the first time, as far as its group knows.
    """
    started = events.Started(
        id=job.id,
        model=job.model,
        created=int(job.created),
        configs=job.configs,
        stream=job.stream,
        include_usage=job.include_usage,
        traceparent=job.traceparent,
        nonce=secrets.token_hex(4),
        version=events.VERSION,
    )
    event, data = events.encode(started)
    answer = await redis.eval(
        RESERVE,
        3,
        keys.events(job.id),
        keys.request(job.id),
        keys.history(partition_of(job.id)),
        keys.live(job.id),
        entry,
        worker,
        f"{time.time():.3f}",
        GUARD_TTL,
        data,
        reason,
        int(first),
    )
    outcome = answer[0]
    if outcome == b"fresh":
        return Reservation(answer[1], cancelled=answer[3].decode(), opening=(event, data), waited=answer[2] / 1000)
    if outcome == b"takeover":
        after = parse_event_id(answer[2])
        restarted = events.Restarted(attempt=answer[1], after=str(after), reason=reason)
        return Reservation(answer[1], after, answer[3].decode(), events.encode(restarted), takeover=True)
    running_on = answer[1].decode() if outcome == b"running" else ""
    return Reservation(0, forgotten=outcome == b"forgotten", running_on=running_on)


async def fail(redis: Redis, request_id: str, entry: bytes, failed: Failed, retention: float) -> bool:
    """End the stream of a job that no attempt runs; false when it has ended, or runs under another entry."""
    _, data = events.encode(failed)
    args = (data, f"{time.time():.3f}", max(1, round(retention)), entry)
    keys_ = (keys.events(request_id), keys.request(request_id))
    return bool(await redis.eval(FAIL, 2, *keys_, keys.live(request_id), *args))


async def note_history(redis: Redis) -> None:
    """Note in every partition which Redis this is, so that a later one knows that it is another."""
    pipeline = redis.pipeline(transaction=False)
    for partition in keys.PARTITIONS:
        pipeline.eval(NOTE_HISTORY, 1, keys.history(partition))
    await pipeline.execute()
