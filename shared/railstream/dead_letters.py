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
from railstream.requests import queue_again

MOST: Final = 10_000
"""Dead jobs kept; the oldest go first."""
PAGE: Final = 100
"""Letters that are read in one round trip."""
KEPT: Final = 7 * 24 * 3600
"""Seconds that a dead job is kept if nothing else is said: it holds somebody's prompt."""


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
    code: str = ""
    """Of the error that its request ended with; of a release before it, empty."""


async def bury(
    redis: Redis,
    *,
    job: bytes,
    request_id: str,
    pool: str,
    deliveries: int,
    reason: str,
    code: str = "",
    kept: float = KEPT,
) -> None:
    """Keep a job that no worker will be given any more, and drop those that were kept longer than ``kept`` seconds.

    ``code``: of its request's end.
    """
    fields: dict[Any, Any] = {
        "job": job,
        "request": request_id,
        "pool": pool,
        "deliveries": deliveries,
        "reason": reason,
        "code": code or ("deliveries_exhausted" if request_id else "not_a_job"),
        "at": f"{time.time():.3f}",
    }
    pipeline = redis.pipeline(transaction=False)
    pipeline.xadd(keys.DEAD, fields, maxlen=MOST, approximate=True)
    pipeline.xtrim(keys.DEAD, minid=int((time.time() - kept) * 1000), approximate=False)
    pipeline.expire(keys.DEAD, max(1, round(kept)))
    await pipeline.execute()


async def dead_letters(redis: Redis, letter_id: str | None = None) -> list[DeadLetter]:
    """All of them, oldest first, or the one of that id."""
    entries: list[Any] = await redis.xrange(keys.DEAD, letter_id or "-", letter_id or "+") or []
    return [_letter(entry.decode(), fields) for entry, fields in entries]


async def dead_letter_of(redis: Redis, request_id: str) -> DeadLetter | None:
    """The latest dead letter of a request, read a page at a time: each holds a whole job."""
    before = "+"
    while True:
        page: list[Any] = await redis.xrevrange(keys.DEAD, before, "-", count=PAGE) or []
        for entry, fields in page:
            if fields[b"request"] == request_id.encode():
                return _letter(entry.decode(), fields)
        if len(page) < PAGE:
            return None
        before = f"({page[-1][0].decode()}"


def _letter(letter_id: str, fields: dict[bytes, bytes]) -> DeadLetter:
    return DeadLetter(
        id=letter_id,
        request_id=fields[b"request"].decode(),
        reason=fields[b"reason"].decode(errors="replace"),
        deliveries=int(fields[b"deliveries"]),
        at=float(fields[b"at"]),
        pool=fields.get(b"pool", b"").decode(),
        job=fields[b"job"],
        code=fields.get(b"code", b"").decode(),
    )


async def retry(redis: Redis, letter: DeadLetter) -> str:
    """Run the job once more, under its request's id: its readers, its Idempotency-Key and its session see the answer.

    Returns ``reopened``; ``expired`` when the record of the request was gone, and its answer is a new one under the
    old id; or the status of a request that runs already or has another end, whose job is not run again. The letter is
    dropped in each case.

    Raises:
        RailstreamError: it is no job, so no worker could ever run it.
    """
    try:
        job = jobs.decode(letter.job)
    except ValueError as error:
        raise RailstreamError(
            f"dead letter {letter.id} is no job that this release can run: {error}; look at it with "
            f"`railstream dead show {letter.id}`, or drop it"
        ) from error
    if job.deadline:
        job = msgspec.structs.replace(job, deadline=time.time() + job.deadline - job.created)
    # A message without an envelope is read as it is: its job is the whole of it.
    outcome = await queue_again(redis, job, jobs.encode(job), pool=letter.pool)
    await drop(redis, letter)
    return outcome


async def is_expired(redis: Redis, letter: DeadLetter) -> bool:
    """Whether nothing is known of the letter's request any more: nobody can have waited for its answer."""
    return not (letter.request_id and await redis.exists(keys.request(letter.request_id)))


async def drop(redis: Redis, letter: DeadLetter) -> None:
    await redis.xdel(keys.DEAD, letter.id)
