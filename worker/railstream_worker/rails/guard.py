"""Guard one channel of one choice: incremental rails first, then windows of what they let through.

Released is always a prefix of what the rails make of the whole text. After a block nothing is released.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from railstream_worker.rails.incremental import Chain
from railstream_worker.rails.panel import Panel, activation, cause_of
from railstream_worker.rails.pieces import Piece
from railstream_worker.rails.port import Block, Release, Turn, Violation
from railstream_worker.rails.verdict import allow, block


class IncrementalGuard:
    """Nothing but incremental rails: all is decided before `push` returns."""

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
        self._began = time.time()

    def prime(self, text: str) -> None:
        self._chain.prime(text)

    def passes(self, text: str) -> bool:
        if self._over or self._unsettled:
            return False
        try:
            return self._chain.passes(text)
        except Exception as error:
            self._failed = error  # `push` says it
            return False

    def push(self, text: str) -> None:
        if text and not self._over:
            self._run(text, final=False)

    async def finish(self) -> None:
        if not self._over:
            self._run("", final=True)
        if not self._over:
            self._end(None)

    async def aclose(self) -> None:
        self._over = True

    def _run(self, text: str, final: bool) -> None:
        chain = self._chain
        try:
            if self._failed is not None:
                raise self._failed
            if chain.rewrites:
                pieces = chain.push(text, final)
            else:
                passed = len(chain.pass_text(text, final))
        except Exception as error:  # a search that ran out of time, above all: what cannot be searched is blocked
            self._failed = None
            self._end(self._panel.failure(chain.running, cause_of(error, chain.running)))
            return
        if chain.rewrites:
            self._let_out(pieces)
        elif passed:
            self._release(passed, None)
        if chain.blocked_by is not None and not self._over:
            self._end(self._panel.violation(chain.blocked_by))

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

    def _let_out(self, pieces: Iterable[Piece]) -> None:
        for text, source, as_is in pieces:
            if self._over:  # closed by whoever took the last piece
                return
            if as_is and not self._unsettled:
                self._release(source, None)
            elif source:
                text, self._unsettled = self._unsettled + text, ""
                self._release(source, text)
            else:  # the head of a rewritten piece: it leaves with the part that settles its source
                self._unsettled += text
