"""The provider's run of one answer, kept in the request's hash, so that the worker that takes over reads the same run.

It is stored under the number of the attempt that reads it: a superseded attempt changes nothing. Every terminal event
of a request ends its run too: one that was not read to its end is cancelled at the provider. An attempt that is
drained, or loses its claim, writes no terminal event and leaves the run to the next one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from railstream import keys
from railstream.errors import CallError
from railstream.events import Usage
from railstream.job import Job
from railstream_engine.providers.port import Again, Call, ChatModel
from railstream_engine.providers.runs import run_keepers

from railstream_worker.attempts.resources import Tools
from railstream_worker.queue.scripts import KEEP_RUN

log = logging.getLogger(__name__)


class Run(msgspec.Struct, frozen=True):
    """One run at the provider. ``digest``: of the messages and options that it answers."""

    id: str
    call: str
    """The call that began it: ``<attempt>.<n>``. Its usage is recorded under that name, whoever reads it."""
    model: str
    """Which of the job's models has it: its provider, name and address."""
    digest: str


class KeptRuns:
    """``again`` is the run that an earlier attempt has stored, until it is read; ``is_gone``: it cannot be."""

    def __init__(
        self,
        job: Job,
        tools: Tools,
        attempt: int,
        model: ChatModel,
        *,
        field: str,
        found: Run | None,
        leaves: Callable[[], bool],
    ) -> None:
        """``field``: of the request's hash. ``leaves``: whether the attempt ends without a terminal event."""
        self._job = job
        self._tools = tools
        self._attempt = attempt
        self._field = field
        self._leaves = leaves
        self._keepers = {_place_of(keeper): keeper for keeper in run_keepers(model)}
        self._found = found
        self._current: Run | None = None
        self._storing: asyncio.Task[None] | None = None
        self._replaced: asyncio.Task[None] | None = None
        self._reread: Run | None = None
        self.is_gone = found is not None and found.model not in self._keepers
        self.lost: Usage | None = None
        """The record of the found run's call as one that was lost; ``None`` when the call is recorded already."""

    @property
    def possible(self) -> bool:
        """Whether a model of the job keeps runs."""
        return bool(self._keepers)

    @property
    def again(self) -> Again | None:
        if self._found is None or self.is_gone:
            return None
        return Again(self._found.call, self._keepers[self._found.model])

    def read_again(self, call: Call) -> str:
        if self._found is None:
            return ""
        run = self._current = self._reread = self._found
        self._found = None
        if run.digest != digest_of(call):
            self.is_gone = True
            raise CallError("the run that was begun answers other messages than these", code="not_found")
        return run.id

    def begun(self, run: str, call: Call, model: ChatModel) -> None:
        if self._current is not None:  # another model, or another question, has taken its place
            self._replaced = asyncio.get_running_loop().create_task(self._cancel(self._current))
        name = call.request_id.partition(".")[2]
        kept = self._current = Run(run, name, _place_of(model), digest_of(call))
        self._storing = asyncio.get_running_loop().create_task(self._keep(kept))

    async def stored(self) -> None:
        if self._storing is not None:
            await asyncio.shield(self._storing)

    def ended(self) -> None:
        self._current = None

    async def forget(self) -> None:
        self._current = None
        await self.stored()
        await self._store(b"")

    async def gone(self) -> None:
        self.is_gone = True
        await self.forget()

    def recorded(self, usage: Usage) -> Usage | None:
        if self._reread is not None and usage.call == self._reread.call and (self.is_gone or self.lost is None):
            return self.lost
        left = self._current is not None and usage.call == self._current.call and self._leaves()
        return None if left else usage

    def earlier(self, calls: Sequence[Usage]) -> list[Usage]:
        """The answering calls of the attempts before that are other calls than the run that was read again."""
        others = [usage for usage in calls if self._reread is None or usage.call != self._reread.call]
        return [*others, self.lost] if self.is_gone and self.lost is not None else others

    def end(self, record: Callable[[Usage], None]) -> asyncio.Task[None] | None:
        """The request ends: cancel what still runs for it. Returns the task of that, which may be waited for."""
        if self._found is not None and self.lost is not None:
            record(self.lost)
        run, self._current, self._found = self._current or self._found, None, None
        return None if run is None else asyncio.get_running_loop().create_task(self._close(run))

    async def _close(self, run: Run) -> None:
        await self.stored()
        await self._cancel(run)
        await self._store(b"")

    async def _cancel(self, run: Run) -> None:
        keeper = self._keepers.get(run.model)
        if keeper is not None:
            await keeper.cancel_run(run.id)

    async def _keep(self, run: Run) -> None:
        """Store a run; one that a later attempt will never know is cancelled."""
        if not await self._store(msgspec.json.encode(run)):
            await self._cancel(run)

    async def _store(self, run: bytes) -> bool:
        """Store a run, or that there is none. Returns False when a later attempt has begun.

        What cannot be stored for another reason cannot be read again, and costs nothing else.
        """
        key = keys.request(self._job.id)
        try:
            stored: Any = await self._tools.leases.writing.repeat(
                lambda: self._tools.redis.eval(KEEP_RUN, 1, key, str(self._attempt), run, self._field)
            )
        except Exception:
            log.exception("request %s: the run of its provider cannot be kept", self._job.id)
            return True
        return bool(stored)


def _place_of(model: ChatModel) -> str:
    return f"{model.provider}/{model.name}@{model.address}:{model.port}"


def digest_of(call: Call) -> str:
    """Digest of what a call asks: a run answers these messages and options, and no others."""
    question = [list(call.messages), dict(call.params)]
    try:
        encoded = msgspec.json.encode(question)
    except UnicodeEncodeError:  # half a surrogate pair
        encoded = json.dumps(question).encode()
    return hashlib.sha256(encoded).hexdigest()[:32]
