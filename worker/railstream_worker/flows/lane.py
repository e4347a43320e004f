"""One operation's place on a stream that it shares: its chunks carry its index and id, and what it said is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from railstream import events, keys
from railstream.events import OperationFinished, OperationSkipped
from railstream.ids import parse_event_id
from railstream.job import Job
from redis.asyncio import Redis

from railstream_worker.flows.schedule import FAILED, FINISHED, SKIPPED
from railstream_worker.gate import Room


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    index: int = 0


_delta = msgspec.json.Decoder(_Delta).decode
_choice = msgspec.json.Decoder(_Choice).decode
_fields = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(slots=True)
class Known:
    """What earlier attempts let out of one operation."""

    text: str = ""
    chunks: int = 0
    only_text: bool = True
    outcome: str = ""
    """Empty while it has none."""
    usage: dict[str, Any] | None = None
    finish_reason: str = ""

    def hear(self, delta: bytes) -> None:
        self.text += _delta(delta).content or ""
        self.chunks += 1
        self.only_text = self.only_text and set(_fields(delta)) <= {"content", "role"}


@dataclass(slots=True)
class Lane:
    """A sink for one operation."""

    room_of: Room
    index: int
    operation: str
    known: Known = field(default_factory=Known)

    @property
    def text(self) -> str:
        return self.known.text

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        told = {"index": self.index, "operation": self.operation}
        if choice and "logprobs" in (given := _fields(choice)):
            told["logprobs"] = given["logprobs"]
        self.known.hear(delta)
        self.room_of.chunk(delta, msgspec.json.encode(told))

    async def room(self) -> None:
        await self.room_of.room()


async def read_known(redis: Redis, job: Job) -> dict[str, Known]:
    """All that the stream of ``job`` holds, by operation: what is finished there is not done again."""
    known = {operation.id: Known() for operation in job.operations}
    by_index = [known[operation.id] for operation in job.operations]
    entries: list[Any] = await redis.xrange(keys.events(job.id)) or []
    for entry_id, fields in entries:
        name = fields[b"event"]
        if name == events.CHUNK:
            by_index[_choice(fields.get(b"choice", b"{}")).index].hear(fields[b"data"])
        elif name in events.OPERATIONS:
            payload = events.decode(events.Event(parse_event_id(entry_id), name, fields[b"data"]))
            if isinstance(payload, OperationFinished):
                one = known[payload.operation]
                one.outcome = FAILED if payload.error is not None else FINISHED
                one.usage, one.finish_reason = payload.usage, payload.finish_reason
            elif isinstance(payload, OperationSkipped):
                known[payload.operation].outcome = SKIPPED
    return known
