"""Guard one channel of one choice: incremental rails first, then windows of what they let through.

Released is always a prefix of what the rails make of the whole text. After a block nothing is released.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from railstream_engine.rails.judges.judge_group import Panel, activation, cause_of
from railstream_engine.rails.judges.verdict import allow, block
from railstream_engine.rails.matching.incremental import SLICE, Chain
from railstream_engine.rails.matching.pieces import Piece, together
from railstream_engine.rails.matching.search_time import OffLoop
from railstream_engine.rails.matching.searcher import Searcher
from railstream_engine.rails.port import Block, Release, Turn, Violation


class IncrementalGuard:
    """Nothing but incremental rails: nearly all is decided before `push` returns.

    A text that is too long for one look, or whose search takes too long for the event loop, is decided by a task; what
    is pushed meanwhile waits for it.
    """

    def __init__(self, chain: Chain, turn: Turn, release: Release, block: Block, panel: Panel) -> None:
        """``panel``: says how a violation reads."""
        self._chain = chain
        self._turn = turn
        self._release = release
        self._block = block
        self._panel = panel
        self._unsettled = ""
        self._over = False
        self._failed: Exception | None = None
        self._searcher = Searcher(chain)
        self._task: asyncio.Task[None] | None = None
        """Decides what `push` could not."""
        self._waiting: deque[str] = deque()
        self._failure: Exception | None = None
        """From whoever took what the task released."""
        self._began = time.time()

    def prime(self, text: str) -> None:
        self._chain.prime(text)

    def passes(self, text: str) -> bool:
        if self._over or self._unsettled or self._task is not None:
            return False
        try:
            return self._chain.passes(text)
        except OffLoop:
            return False
        except Exception as error:
            self._failed = error  # `push` says it
            return False

    def push(self, text: str) -> None:
        if not text or self._over:
            return
        if self._task is not None or len(text) > SLICE:
            self._waiting.append(text)
            self._start_task(resumes=False)
        else:
            self._run(text)

    async def finish(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._failure is not None:
            raise self._failure
        if not self._over:
            await self._decide("", final=True)
        if not self._over:
            self._end(None)

    async def aclose(self) -> None:
        self._over = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait([self._task])

    def _run(self, text: str) -> None:
        chain = self._chain
        try:
            if self._failed is not None:
                raise self._failed
            if chain.rewrites:
                pieces = chain.push(text)
            else:
                passed = len(chain.pass_text(text, False))
        except OffLoop:
            self._start_task(resumes=True)
            return
        except Exception as error:
            self._fail(error)
            return
        if chain.rewrites:
            self._let_out(pieces)
        elif passed:
            self._release(passed, None)
        self._end_if_blocked()

    def _start_task(self, *, resumes: bool) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(resumes))

    async def _work(self, resumes: bool) -> None:
        try:
            if resumes:
                await self._decide(None)
            while self._waiting and not self._over:
                await self._decide(self._waiting.popleft())
        except Exception as error:
            self._failure, self._over = error, True
        finally:
            self._task = None

    async def _decide(self, text: str | None, *, final: bool = False) -> None:
        """Let out what may leave of this text; ``None``: of the one that `OffLoop` was raised for."""
        try:
            if self._failed is not None:
                raise self._failed
            pieces = await (self._searcher.resume() if text is None else self._searcher.push(text, final))
        except Exception as error:
            self._let_out(self._searcher.passed())
            self._fail(error)
            return
        self._let_out(pieces)
        self._end_if_blocked()

    def _fail(self, error: Exception) -> None:
        """A search that ran out of time, above all: what cannot be searched is blocked."""
        self._failed = None
        if not self._over:
            self._end(self._panel.failure(self._chain.running, cause_of(error, self._chain.running)))

    def _end_if_blocked(self) -> None:
        if self._chain.blocked_by is not None and not self._over:
            self._end(self._panel.violation(self._chain.blocked_by))

    def _end(self, violation: Violation | None) -> None:
        self._over = True
        for flow in self._chain.flows:
            stopped = violation is not None and violation.flow == flow
            verdict = block(violation.message) if violation is not None and stopped else allow()
            # It ran beside the generation: its time is the stream's length, not its own.
            entry = activation(self._panel.stage, flow, self._began, verdict) | {"streamed": True}
            self._turn.activated.append(entry)
        if violation is not None:
            self._block(violation)

    def _let_out(self, pieces: Sequence[Piece]) -> None:
        for text, source, as_is in together(pieces):
            if self._over:  # closed by whoever took the last piece
                return
            if as_is and not self._unsettled:
                self._release(source, None)
            elif source:
                text, self._unsettled = self._unsettled + text, ""
                self._release(source, text)
            else:  # the head of a rewritten piece: it leaves with the part that settles its source
                self._unsettled += text
