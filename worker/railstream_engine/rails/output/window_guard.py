"""Guard a text by rails that judge: windows of it while it grows, and all of it at its end.

Windows are judged while the model goes on, several at once, and what passed is released in order. With
``stream_first`` a delta is released before it is judged, but no more than ``chunk_size`` deltas are ahead of their
verdict, and a block cuts what follows.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from railstream_engine.rails.judges.judge_group import Panel, Ruling
from railstream_engine.rails.output.deltas import Reassembly, SettledDelta
from railstream_engine.rails.output.windows import Window, Windows
from railstream_engine.rails.port import Block, OutputGuard, Release, Turn, Violation


@dataclass(slots=True)
class _Check:
    window: Window[SettledDelta]
    text: str
    task: asyncio.Task[None] | None = None
    ruling: Ruling | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """When judged text leaves."""

    stream_first: bool
    max_concurrent_checks: int
    ahead: int
    """With ``stream_first``: the most deltas that are released and not judged."""
    by_window: bool
    """With ``stream_first``: release whole windows, each when those before it have passed, as NeMo Guardrails does."""


class WindowGuard:
    """``inner`` makes the guard of the incremental rails, whose output is judged here; ``None``: there are none."""

    def __init__(
        self,
        turn: Turn,
        release: Release,
        block: Block,
        *,
        windows: Windows[SettledDelta] | None,
        panel: Panel,
        whole: Panel,
        pace: Pace,
        inner: Callable[[Release, Block], OutputGuard | None],
    ) -> None:
        self._turn = turn
        self._release = release
        self._block = block
        self._windows = windows
        self._panel = panel
        self._whole = whole
        self._pace = pace
        self._inner = inner(self._settle, self._stop)
        self._deltas = Reassembly()
        self._checks: deque[_Check] = deque()
        self._running = 0
        self._primed = ""
        self._passed: list[SettledDelta] = []
        """Deltas that wait for the rails that judge the whole text."""
        self._unshown: deque[SettledDelta] = deque()
        """With ``stream_first``: deltas that are not released yet, since too many are ahead of their verdict."""
        self._shown = self._judged = 0
        self._moved = asyncio.Event()
        self._failure: BaseException | None = None
        self._over = False

    def prime(self, text: str) -> None:
        self._primed = text
        if self._inner is not None:
            self._inner.prime(text)
        if self._windows is not None:  # the deltas of an earlier attempt are not known; words come close
            self._windows.prime([SettledDelta(word) for word in re.findall(r"\s*\S+\s*", text)])

    def passes(self, text: str) -> bool:
        return False

    def push(self, text: str) -> None:
        if not text or self._over:
            return
        self._deltas.sent(text)
        if self._inner is not None:
            self._inner.push(text)
        else:
            self._settle(len(text), None)

    async def finish(self) -> None:
        if self._inner is not None and not self._over:
            await self._inner.finish()
        if self._windows is not None and not self._over:
            self._check(self._windows.end())
        while self._checks and not self._over:
            self._moved.clear()
            await self._moved.wait()
        if self._failure is not None:
            raise self._failure
        if self._whole.judges and not self._over:
            await self._judge_whole()
        self._over = True

    async def aclose(self) -> None:
        self._over = True
        if self._inner is not None:
            await self._inner.aclose()
        cancelled = self._cancel_checks()
        await asyncio.gather(*cancelled, return_exceptions=True)

    def _settle(self, consumed: int, text: str | None) -> None:
        for delta in self._deltas.settle(consumed, text):
            if self._pace.stream_first:
                self._unshown.append(delta)
            if self._whole.judges:
                self._passed.append(delta)
            if self._windows is not None:
                self._check(self._windows.add(delta))
            elif not self._pace.stream_first and not self._whole.judges:
                self._let_out(delta.releases)
            self._show()

    def _show(self) -> None:
        """With ``stream_first``: release as much as may be ahead of its verdict."""
        limit = self._pace.ahead if self._whole.judges else self._judged + self._pace.ahead
        if self._windows is not None and self._pace.by_window:
            limit = min(limit, self._judged + (len(self._checks[0].window.new) if self._checks else 0))
        while self._unshown and self._shown < limit and not self._over:
            self._shown += 1
            self._let_out(self._unshown.popleft().releases)

    def _check(self, window: Window[SettledDelta] | None) -> None:
        if window is None:
            return
        text = "".join(delta.text for delta in (*window.context, *window.new))
        check = _Check(window, text)
        self._checks.append(check)
        if not text:
            check.ruling = Ruling("")
            self._advance()
        self._show()
        self._start_checks()

    def _start_checks(self) -> None:
        for check in self._checks:
            if self._running >= self._pace.max_concurrent_checks:
                return
            if check.task is None and check.ruling is None:
                self._running += 1
                check.task = asyncio.get_running_loop().create_task(self._run(check))

    async def _run(self, check: _Check) -> None:
        try:
            check.ruling = await self._panel.rule(check.text, self._turn)
        finally:
            self._running -= 1
        if self._over:
            return
        try:
            self._advance()
        except Exception as error:  # from whoever takes what is released: theirs to see, at `finish`
            self._failure, self._over = error, True
            self._moved.set()

    def _advance(self) -> None:
        """Release what has passed, in order, up to the first window that has not."""
        while self._checks and not self._over:
            check = self._checks[0]
            if check.ruling is None:
                break
            self._checks.popleft()
            self._conclude(check, check.ruling)
        if not self._over:
            self._start_checks()
        self._moved.set()

    def _conclude(self, check: _Check, ruling: Ruling) -> None:
        if ruling.violation is not None:
            self._stop(ruling.violation)
        elif ruling.text != check.text:
            self._rewrite(check, ruling.text)
        elif self._pace.stream_first:
            self._judged += len(check.window.new)
            self._show()
        elif not self._whole.judges:
            for delta in check.window.new:
                self._let_out(delta.releases)

    def _rewrite(self, check: _Check, text: str) -> None:
        context = "".join(delta.text for delta in check.window.context)
        new = check.window.new
        if self._pace.stream_first or not new or not text.startswith(context):
            flow = self._panel.judges[-1].flow
            self._stop(self._panel.failure(flow, "it rewrote text that had already been released"))
            return
        rewritten = (_consumed(new), text[len(context) :])
        if self._whole.judges:
            for delta in new:
                delta.text, delta.releases = "", []
            new[-1].text, new[-1].releases = rewritten[1], [rewritten]
        else:
            self._let_out([rewritten])

    async def _judge_whole(self) -> None:
        text = self._primed + "".join(delta.text for delta in self._passed)
        ruling = await self._whole.rule(text, self._turn) if text else Ruling("")
        if self._over:
            return
        if ruling.violation is not None:
            self._stop(ruling.violation)
        elif ruling.text != text and (self._pace.stream_first or not ruling.text.startswith(self._primed)):
            flow = self._whole.judges[-1].flow
            self._stop(self._whole.failure(flow, "it rewrote text that had already been released"))
        elif ruling.text != text:
            self._let_out([(_consumed(self._passed), ruling.text[len(self._primed) :])])
        else:
            for delta in self._unshown if self._pace.stream_first else self._passed:
                self._let_out(delta.releases)

    def _let_out(self, releases: Sequence[tuple[int, str | None]]) -> None:
        for consumed, text in releases:
            if self._over:
                return
            self._release(consumed, text)

    def _stop(self, violation: Violation) -> None:
        if self._over:
            return
        self._over = True
        self._cancel_checks()
        self._moved.set()
        self._block(violation)

    def _cancel_checks(self) -> list[asyncio.Task[None]]:
        own = asyncio.current_task()
        tasks = [check.task for check in self._checks if check.task is not None and check.task is not own]
        for task in tasks:
            task.cancel()
        return tasks


def _consumed(deltas: Sequence[SettledDelta]) -> int:
    return sum(consumed for delta in deltas for consumed, _ in delta.releases)
