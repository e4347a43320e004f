"""Run a text of any length through incremental rails without holding up the event loop: in slices, or in a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from railstream_engine.rails.matching.incremental import SLICE, Chain
from railstream_engine.rails.matching.pieces import Piece, together
from railstream_engine.rails.matching.search_time import OffLoop, OffLoopTime, off_loop

_TURN: Final = 0.002  # seconds for which slices follow each other before other streams have their turn


class LoopShare:
    """The time that one task takes of the event loop before other tasks have their turn."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    async def give_way(self) -> None:
        """Let other tasks run, if they have waited for two milliseconds."""
        if time.perf_counter() - self._began > _TURN:
            await asyncio.sleep(0)
            self._began = time.perf_counter()


class Searcher:
    """The searches of one text. One call at a time."""

    def __init__(self, chain: Chain, *, exact: bool = False) -> None:
        """``exact``: every piece is given by itself, also of a long text."""
        self._chain = chain
        self._exact = exact
        self._within = OffLoopTime()
        self._passed: list[Piece] = []

    async def push(self, text: str, final: bool = False) -> Sequence[Piece]:
        """As `Chain.push`."""
        share = LoopShare()
        for at in range(0, max(1, len(text)), SLICE):
            last = at + SLICE >= len(text)
            try:
                pieces = self._chain.push(text[at : at + SLICE], final and last)
            except OffLoop:
                pieces = await off_loop(self._chain.resume, self._within)
            self._passed += together(pieces, 1) if len(text) > SLICE and not self._exact else pieces
            if self._chain.blocked_by is not None:
                break
            if not last:
                await share.give_way()
        return self.passed()

    async def resume(self) -> Sequence[Piece]:
        """As `Chain.resume`, in a thread."""
        self._passed += await off_loop(self._chain.resume, self._within)
        return self.passed()

    def passed(self) -> Sequence[Piece]:
        """What may leave of a text whose search failed further on."""
        passed, self._passed = self._passed, []
        return passed
