"""Run a graph of operations and stream what they say, as they say it.

Operations run in tasks of their own and hand over through a bounded queue: who leaves the iterator ends them all and
stays as he was. A graph can be run as often as one likes: nothing of a run is kept in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from railstream.errors import CallError, RailstreamError
from railstream.graph import check_graph, in_turn, with_context

from railstream_engine.schedule import OnFailure, Schedule
from railstream_engine.sessions.builder import Operation
from railstream_engine.sessions.chunks import Chunk
from railstream_engine.sessions.turns import stream_turn

MOST_AT_ONCE: Final = 8
BACKLOG: Final = 64
"""Events that wait for the reader; then the operations wait."""


@dataclass(frozen=True, slots=True)
class OperationStarted:
    operation: str


@dataclass(frozen=True, slots=True)
class OperationChunk:
    operation: str
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class OperationFinished:
    """``text`` is the whole answer, or what came of it before ``error``."""

    operation: str
    text: str
    error: RailstreamError | None = None


@dataclass(frozen=True, slots=True)
class OperationSkipped:
    operation: str
    reason: str


FlowEvent = OperationStarted | OperationChunk | OperationFinished | OperationSkipped


class FlowError(RailstreamError):
    """Operations failed. ``errors`` and ``skipped`` (reasons) by operation; the rest of the flow has run."""

    code = "flow_failed"

    def __init__(self, errors: Mapping[str, RailstreamError], skipped: Mapping[str, str]) -> None:
        told = "; ".join(f"{id}: {error.message}" for id, error in errors.items())
        super().__init__(f"{len(errors)} operations failed and {len(skipped)} were skipped: {told}")
        self.errors = dict(errors)
        self.skipped = dict(skipped)


def flow_events(
    operations: Iterable[Operation], *, max_concurrent: int = MOST_AT_ONCE, on_failure: OnFailure = "continue"
) -> aclosing[AsyncGenerator[FlowEvent, None]]:
    """Every event of the flow: ``async with flow_events(…) as events``.

    Raises:
        InvalidRequestError: an operation waits for one that is not there, or for itself.
    """
    run = _Run(list(operations), max_concurrent, on_failure)
    return aclosing(run.events())


async def flow_stream(
    operations: Iterable[Operation], *, max_concurrent: int = MOST_AT_ONCE, on_failure: OnFailure = "continue"
) -> AsyncGenerator[tuple[str, Chunk], None]:
    """``(operation id, chunk)`` as they come, interleaved; each operation's last chunk has its finish and usage.

    Raises:
        FlowError: at the end, when operations failed.
    """
    errors: dict[str, RailstreamError] = {}
    skipped: dict[str, str] = {}
    async with flow_events(operations, max_concurrent=max_concurrent, on_failure=on_failure) as events:
        async for event in events:
            match event:
                case OperationChunk(id, chunk):
                    yield id, chunk
                case OperationFinished(id, error=RailstreamError() as error):
                    errors[id] = error
                case OperationSkipped(id, reason):
                    skipped[id] = reason
    if errors:
        raise FlowError(errors, skipped)


class _Run:
    def __init__(self, operations: list[Operation], limit: int, on_failure: OnFailure) -> None:
        self._operations = {operation.id: operation for operation in operations}
        edges = {id: operation.needs for id, operation in self._operations.items()}
        check_graph(edges)
        self._texts: dict[str, str] = {}
        self._queue: asyncio.Queue[FlowEvent | None] = asyncio.Queue(BACKLOG)
        branches = {id: operation.branch for id, operation in self._operations.items()}
        self._schedule = Schedule(
            edges, self._one, self._skip, soft=in_turn(edges, branches), limit=limit, on_failure=on_failure
        )

    async def events(self) -> AsyncGenerator[FlowEvent, None]:
        driver = asyncio.create_task(self._drive())
        try:
            while (event := await self._queue.get()) is not None:
                yield event
            await driver
        finally:
            driver.cancel()
            await asyncio.wait([driver])
            if not driver.cancelled():
                driver.exception()

    async def _drive(self) -> None:
        try:
            await self._schedule.run()
        finally:
            await self._queue.put(None)

    async def _one(self, id: str) -> bool:
        operation = self._operations[id]
        given = operation.parameters
        context = with_context("", {name: self._texts[name] for name in operation.context_from}).rstrip()
        await self._queue.put(OperationStarted(id))
        texts: list[str] = []
        error: RailstreamError | None = None
        try:
            turn = stream_turn(operation.session, given["branch"], given["instruction"], given["imodel"], context)
            async with turn as chunks:
                async for chunk in chunks:
                    texts.append(chunk.data)
                    await self._queue.put(OperationChunk(id, chunk))
        except CallError as failed:
            error = failed
        self._texts[id] = "".join(texts)
        await self._queue.put(OperationFinished(id, self._texts[id], error))
        return error is None

    async def _skip(self, id: str, reason: str) -> None:
        await self._queue.put(OperationSkipped(id, reason))
