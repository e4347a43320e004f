"""A job's turn on its branch: what was said before, and the answer as far as it was released.

The answer is kept before the stream's end is written, so whoever has seen the end finds the answer. An attempt that
is superseded in between leaves one that the next attempt's replaces. An answer that cannot be kept keeps no request
from its end: only an outage of Redis is raised.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace
from railstream.choice import Choice
from railstream.conversations import Entry, RedisSessions, prompt_of
from railstream.deltas import decode_delta
from railstream.events import Blocked, Cancelled, Failed, Finished
from railstream.job import Job
from railstream_engine.generation.sink import Room
from redis.asyncio import Redis

from railstream_worker.attempts.kept_question import Rewritten
from railstream_worker.attempts.released import Released, read_released
from railstream_worker.queue.writing import is_outage

log = logging.getLogger(__name__)

Ending = Finished | Blocked | Failed | Cancelled
Keep = Callable[[Rewritten], Awaitable[None]]


class BranchTurn:
    """Of a job that belongs to no conversation it does nothing."""

    def __init__(self, redis: Redis, job: Job) -> None:
        self._redis = redis
        self._job = job
        self._sessions = RedisSessions(redis)
        self._heard: _Ear | None = None

    @property
    def kept(self) -> bool:
        """Whether the answer goes to the branch; rails over given messages only read it."""
        return bool(self._job.session) and self._job.kind == "chat"

    async def history(self) -> list[dict[str, Any]]:
        job = self._job
        if not job.session:
            return []
        return prompt_of(await self._sessions.history(job.session, job.branch, job.id))

    def hear(self, sink: Room, released: Released) -> Room:
        """The sink, listened to."""
        if not self.kept:
            return sink
        self._heard = _Ear(sink, released, self._keep_question)
        return self._heard

    async def end(self, payload: Ending, attempt: int) -> None:
        """Keep the answer, if there is one. Raises an outage of Redis alone; it may be called again."""
        if not self.kept:
            return
        try:
            answer = answer_of(payload, await self._message(), self._job.id)
        except Exception as error:
            if is_outage(error):
                raise
            log.exception("request %s: what was released cannot be kept on its branch", self._job.id)
            return
        if answer is not None:
            await keep(self._sessions, self._job, self._job.branch, attempt, answer)

    async def _keep_question(self, rewritten: Rewritten) -> None:
        job = self._job
        await keep_rewritten(lambda: self._sessions.rewrite_turn(job.session, job.branch, job.id, rewritten), job.id)

    async def _message(self) -> dict[str, Any]:
        if self._heard is None:
            self._heard = _Ear(None, await read_released(self._redis, self._job), self._keep_question)
        return self._heard.message()


async def keep(sessions: RedisSessions, job: Job, branch: str, attempt: int, answer: Entry) -> None:
    """Keep an answer on a branch; its text alone when the whole of it cannot be. Raises an outage of Redis."""
    text = str(answer.message.get("content") or "")
    plain = replace(answer, message={"role": "assistant", "content": text}, usage=None)
    for entry in (answer, plain):
        try:
            await sessions.end_turn(job.session, branch, job.id, attempt, entry)
            return
        except Exception as error:
            if is_outage(error):
                raise
            log.exception("request %s: its answer cannot be kept on branch %r", job.id, branch)


async def keep_rewritten(write: Callable[[], Awaitable[Any]], request: str) -> None:
    """Keep a rewritten question. Raises an outage of Redis alone: whatever else fails, it stays as it was sent."""
    try:
        await write()
    except Exception as error:
        if is_outage(error):
            raise
        log.exception("request %s: its question stays on its branch as it was sent", request)


class _Ear:
    """A sink that remembers the first choice of what goes through it."""

    def __init__(self, sink: Room | None, released: Released, keep_question: Keep) -> None:
        self._sink = sink
        self.keep_question = keep_question
        self._deltas: list[bytes] = []
        self._released = released

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        assert self._sink is not None
        self._sink.chunk(delta, choice)
        if b'"index"' not in choice or b'"index":0' in choice:
            self._deltas.append(delta)

    async def room(self) -> None:
        assert self._sink is not None
        await self._sink.room()

    def has_room(self) -> bool:
        return self._sink is not None and self._sink.has_room()

    def message(self) -> dict[str, Any]:
        choice = Choice()
        choice.add({"content": self._released.text or None, "tool_calls": self._released.parts.tool_calls}, None)
        for delta in self._deltas:
            choice.add(decode_delta(delta), None)
        message = choice.message()
        return {
            name: value for name, value in message.items() if value is not None and not name.startswith("reasoning")
        }


def answer_of(payload: Ending, message: dict[str, Any], request: str, operation: str = "") -> Entry | None:
    """What is kept of an answer that ended so; ``None`` when nothing was said."""
    said = bool(message.get("content") or message.get("tool_calls"))
    entry = Entry(message, time.time(), request, operation=operation, usage=payload.usage)
    match payload:
        case Finished(finish_reasons=reasons):
            return replace(entry, finish_reason=reasons[0] if reasons else "stop")
        case Blocked(stage=stage, refusal=refusal):
            shown = refusal if stage == "input" or not said else message["content"]
            blocked = replace(entry, message={"role": "assistant", "content": shown}, finish_reason="blocked")
            return replace(blocked, partial=stage != "input", withheld=True)
        case Failed():
            reason = "failed"
        case Cancelled():
            reason = "cancelled"
    return replace(entry, finish_reason=reason, partial=True) if said else None
