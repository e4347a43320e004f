"""One operation's place on a stream that it shares: its chunks carry its index and id, and what it said is known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from railstream import events, keys
from railstream.deltas import decode_delta, joined, text_of, well_formed
from railstream.events import OperationFinished, OperationSkipped, OperationStarted
from railstream.ids import parse_event_id
from railstream.job import Job
from railstream_engine.generation.roles import with_role
from railstream_engine.generation.sink import Room
from railstream_engine.schedule import FAILED, FINISHED, SKIPPED
from redis.asyncio import Redis

from railstream_worker.attempts.kept_question import Rewritten
from railstream_worker.attempts.released import LostCalls
from railstream_worker.attempts.replay import ReleasedParts


@dataclass(slots=True)
class Known:
    """What is known of one operation: what was let out of it, by earlier attempts too, and how it ended."""

    chunks: int = 0
    only_text: bool = True
    started: bool = False
    outcome: str = ""
    """Empty while it has none."""
    usage: dict[str, Any] | None = None
    finish_reason: str = ""
    parts: ReleasedParts = field(default_factory=ReleasedParts)
    _text: str = ""

    @property
    def text(self) -> str:
        """The content that was let out."""
        return joined(self._text)

    def end(self, told: OperationFinished) -> None:
        self.outcome = FAILED if told.error is not None else FINISHED
        self.usage, self.finish_reason = told.usage, told.finish_reason

    def hear(self, delta: bytes, logprobs: bytes = b"") -> None:
        fields = decode_delta(delta)
        self.parts.add(fields, logprobs)
        self._text += text_of(fields)
        self.chunks += 1
        self.only_text = self.only_text and fields.keys() <= {"content", "role"}


@dataclass(slots=True)
class Lane:
    """A sink for one operation."""

    room_of: Room
    index: int
    operation: str
    known: Known = field(default_factory=Known)
    names_role: bool = False
    """Its first delta has the role: it is a choice of a chat completion, and not the first one."""
    keep: Callable[[Rewritten], Awaitable[None]] | None = None
    """Gets what the input rails rewrote of the operation's messages, where a branch keeps its question."""

    async def keep_question(self, rewritten: Rewritten) -> None:
        if self.keep is not None:
            await self.keep(rewritten)

    @property
    def text(self) -> str:
        return self.known.text

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        told = {"index": self.index, "operation": self.operation}
        if choice and "logprobs" in (given := decode_delta(choice)):
            told["logprobs"] = given["logprobs"]
        if self.names_role and not self.known.chunks:
            delta = with_role(delta)
        self.known.hear(delta, choice if "logprobs" in told else b"")
        self.room_of.chunk(delta, msgspec.json.encode(well_formed(told) if choice else told))

    async def room(self) -> None:
        await self.room_of.room()

    def has_room(self) -> bool:
        return self.room_of.has_room()


class Past:
    """What the stream of a job with operations holds: what is finished there is not done again."""

    def __init__(self, job: Job, runs: Sequence[str] = ()) -> None:
        """``runs``: the calls of runs that providers keep."""
        self.known = {operation.id: Known() for operation in job.operations}
        self.lost = LostCalls()
        for call in runs:
            self.lost.follow(call)
        self._by_index = [self.known[operation.id] for operation in job.operations]

    async def read(self, redis: Redis, request_id: str) -> Past:
        entries: list[Any] = await redis.xrange(keys.events(request_id)) or []
        for entry_id, fields in entries:
            self._hear(events.Event(parse_event_id(entry_id), fields[b"event"], fields[b"data"]), fields.get(b"choice"))
        return self

    def _hear(self, event: events.Event, choice: bytes | None) -> None:
        if event.name == events.CHUNK:
            about = decode_delta(choice or b"{}")
            index = about.get("index", 0)
            self._by_index[index].hear(event.data, choice or b"" if "logprobs" in about else b"")
            self.lost.hear_chunk(f"{event.id.attempt}.{index}", len(text_of(decode_delta(event.data))))
        elif event.name == events.USAGE:
            self.lost.hear_usage(events.decode_usage(event.data))
        elif event.name in events.OPERATIONS:
            self._hear_operation(events.decode(event))

    def _hear_operation(self, payload: events.Payload) -> None:
        match payload:
            case OperationStarted(operation=id):
                self.known[id].started = True
            case OperationFinished(operation=id):
                self.known[id].end(payload)
            case OperationSkipped(operation=id):
                self.known[id].outcome = SKIPPED
