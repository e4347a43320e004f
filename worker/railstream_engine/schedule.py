"""Run operations in the order of their graph, so many at once: a failed one skips what waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from graphlib import TopologicalSorter
from typing import Final, Literal

from railstream.graph import Edges

OnFailure = Literal["stop", "continue"]
FINISHED: Final = "finished"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"

Run = Callable[[str], Awaitable[bool]]
"""Runs an operation to its end; false when it failed. What it raises ends everything."""


class Schedule:
    """``outcomes`` may hold what an earlier attempt got to: none of it runs again."""

    def __init__(
        self,
        edges: Edges,
        run: Run,
        skip: Callable[[str, str], Awaitable[None]],
        *,
        soft: Edges | None = None,
        limit: int,
        on_failure: OnFailure,
        outcomes: dict[str, str] | None = None,
    ) -> None:
        """``soft``: edges that are about order alone; the end of such a one, whatever it is, lets the next one go.
        ``skip`` is told the operation and the reason.
        """
        self.outcomes = outcomes if outcomes is not None else {}
        self._edges = edges
        self._soft = soft or {}
        self._run = run
        self._skip = skip
        self._limit = limit
        self._on_failure = on_failure
        self._running: dict[asyncio.Task[bool], str] = {}

    async def run(self) -> None:
        """Until every operation has an outcome. Leaving it early cancels those that run."""
        try:
            while True:
                await self._skip_what_cannot_run()
                self._start_what_can()
                if not self._running:
                    return
                done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self.outcomes[self._running.pop(task)] = FINISHED if task.result() else FAILED
        finally:
            await self._cancel()

    async def _skip_what_cannot_run(self) -> None:
        stopped = next((id for id, outcome in self.outcomes.items() if outcome == FAILED), None)
        for id in self._waiting_in_order():
            missed = next((name for name in self._edges[id] if self.outcomes.get(name) in (FAILED, SKIPPED)), None)
            if missed is not None:
                await self._end(id, f"{missed!r}, which it waits for, {_did(self.outcomes[missed])}")
            elif stopped is not None and self._on_failure == "stop":
                await self._end(id, f"{stopped!r} failed, and on_failure is 'stop'")

    def _waiting_in_order(self) -> list[str]:
        """Those without an outcome that do not run, each after what it waits for."""
        busy = set(self._running.values())
        order = TopologicalSorter(self._edges).static_order()
        return [id for id in order if id not in self.outcomes and id not in busy]

    async def _end(self, id: str, reason: str) -> None:
        self.outcomes[id] = SKIPPED
        await self._skip(id, reason)

    def _start_what_can(self) -> None:
        busy = set(self._running.values())
        for id, needed in self._edges.items():
            if len(self._running) >= self._limit:
                return
            if id in self.outcomes or id in busy:
                continue
            if all(name in self.outcomes for name in (*needed, *self._soft.get(id, ()))):
                self._running[asyncio.create_task(self._one(id))] = id

    async def _one(self, id: str) -> bool:
        return await self._run(id)

    async def _cancel(self) -> None:
        """End those that run and see their errors, which nobody else will."""
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        for task in running:
            if not task.cancelled():
                task.exception()


def _did(outcome: str) -> str:
    return "failed" if outcome == FAILED else "was skipped"
