"""Begin an attempt: one script decides whether this worker may run the job, and writes the attempt's first event.

First the write, then the read: from the moment the reservation stands, whatever an older attempt still sends is
refused, so what is read after it is all that was ever released.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec
from railstream import events, keys
from railstream.events import Usage
from railstream.ids import START, EventId, parse_event_id, partition_of
from railstream.job import Job
from redis.asyncio import Redis

from railstream_worker.scripts import NOTE_HISTORY, RESERVE

GUARD_TTL = 24 * 3600
"""Seconds that the keys of a request live when nobody ever ends it."""


ANSWER = "general"
"""The task of the call that makes the answer."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """``attempt`` is 0 when there is nothing to run: the job has ended, or this is a second entry of it."""

    attempt: int
    after: EventId = START
    cancelled: str = ""
    """The cancel reason, when somebody had asked before the attempt began."""
    opening: tuple[bytes, bytes] = (b"", b"")
    takeover: bool = False


@dataclass(slots=True)
class Released:
    """What earlier attempts had released: the text of the first choice, and whether there was more than text."""

    text: str = ""
    chunks: int = 0
    only_text: bool = True
    recorded: set[str] = field(default_factory=set)
    """Calls whose usage is recorded."""
    answered: set[int] = field(default_factory=set)
    """Attempts whose answering call has recorded its usage."""
    chunks_of: Counter[int] = field(default_factory=Counter)
    """By attempt."""

    def add(self, usage: Usage) -> None:
        self.recorded.add(usage.call)
        if usage.task == ANSWER:
            self.answered.add(int(usage.call.partition(".")[0]))

    def lost_calls(self) -> Iterator[tuple[str, int]]:
        """The answering calls that died with their worker, and how many chunks of each were released.

        One that had released nothing leaves no trace here: nobody can tell whether it was made.
        """
        for attempt, chunks in sorted(self.chunks_of.items()):
            if attempt not in self.answered:
                number = next(n for n in count(1) if f"{attempt}.{n}" not in self.recorded)
                yield f"{attempt}.{number}", chunks


async def reserve(redis: Redis, job: Job, entry: bytes, *, worker: str, reason: str) -> Reservation:
    """``reason`` is what a ``restarted`` event says, if this is a takeover."""
    started = events.Started(
        id=job.id,
        model=job.model,
        created=int(job.created),
        configs=job.configs,
        stream=job.stream,
        include_usage=job.include_usage,
        traceparent=job.traceparent,
        nonce=secrets.token_hex(4),
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
    )
    outcome = answer[0]
    if outcome == b"fresh":
        return Reservation(answer[1], cancelled=answer[2].decode(), opening=(event, data))
    if outcome == b"takeover":
        after = parse_event_id(answer[2])
        restarted = events.Restarted(attempt=answer[1], after=str(after), reason=reason)
        return Reservation(answer[1], after, answer[3].decode(), events.encode(restarted), takeover=True)
    return Reservation(0)


async def note_history(redis: Redis) -> None:
    """Note in every partition which Redis this is, so that a later one knows that it is another."""
    pipeline = redis.pipeline(transaction=False)
    for partition in keys.PARTITIONS:
        pipeline.eval(NOTE_HISTORY, 1, keys.history(partition))
    await pipeline.execute()


class _Delta(msgspec.Struct):
    content: str | None = None


_decode_delta = msgspec.json.Decoder(_Delta).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


async def read_released(redis: Redis, job: Job) -> Released:
    """All that the stream of ``job`` holds, as the next attempt needs it."""
    released = Released()
    parts: list[str] = []
    entries: list[Any] = await redis.xrange(keys.events(job.id)) or []
    for entry, fields in entries:
        name = fields[b"event"]
        if name == events.USAGE:
            released.add(events.decode_usage(fields[b"data"]))
        if name != events.CHUNK:
            continue
        released.chunks += 1
        released.chunks_of[parse_event_id(entry).attempt] += 1
        if b"choice" in fields and b'"index"' in fields[b"choice"]:
            released.only_text = False
        if set(_decode_fields(fields[b"data"])) - {"content", "role"}:
            released.only_text = False
        parts.append(_decode_delta(fields[b"data"]).content or "")
    released.text = "".join(parts)
    return released
