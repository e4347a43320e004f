"""How long a search may take: a few milliseconds on the event loop, a second in all for one text off it.

A regular expression can backtrack for as long as its author did not foresee. On the loop that would stop every other
stream of the worker, so a search that has used up the loop's time raises `OffLoop` and is run again in a thread;
`regex` lets go of the interpreter there (``concurrent=True``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Final, Protocol, TypeVar

from railstream.errors import RailError

ON_LOOP_SECONDS: Final = 0.005
"""For all searches of one iteration of the loop."""
_WORTH_COUNTING: Final = 0.0002  # seconds
_REMEMBERED: Final = 60.0
"""Seconds for which patterns that took too long are searched off the loop from the start."""
_THREADS: Final = 2
_PATIENCE: Final = 3
OFF_LOOP_SECONDS = 1.0
"""Processor time of one text, for all that its searches take beyond `ON_LOOP_SECONDS` each: one that takes longer is
blocked."""

Result = TypeVar("Result")


class OffLoop(Exception):
    """This search must go on in a thread."""


class Pace:
    """Whether some patterns were slow not long ago."""

    __slots__ = ("slow_until",)

    def __init__(self) -> None:
        self.slow_until = 0.0

    @property
    def is_slow(self) -> bool:
        return self.slow_until > 0 and time.perf_counter() < self.slow_until


class Clock:
    """The time of one look at a text, shared by its searches.

    On the loop it is the time that passes, since others wait for it. In a thread it is the processor's time, so that a
    busy machine blocks no text; as `regex` only knows the time that passes, that may be `_PATIENCE` times as long.
    """

    __slots__ = ("_began", "_ends", "_now", "concurrent")

    def __init__(self, seconds: float, concurrent: bool) -> None:
        self._now = time.thread_time if concurrent else time.perf_counter
        self._began = self._now()
        self._ends = time.perf_counter() + seconds * (_PATIENCE if concurrent else 1)
        self.concurrent = concurrent

    def left(self) -> float:
        """Seconds for the next search. Raises ``TimeoutError`` when there are none."""
        seconds = self._ends - time.perf_counter()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def took(self) -> float:
        return self._now() - self._began


class Allowance(Protocol):
    """Where a search runs, and how much time there is."""

    def start(self, pace: Pace) -> Clock:
        """Raises `OffLoop` where there is no time for patterns of this pace."""

    def stop(self, clock: Clock) -> None:
        """The look at the text is over, whatever came of it."""

    def ran_out(self, pace: Pace) -> Exception:
        """What to raise in place of a ``TimeoutError``."""


class _Unlimited:
    """For callers without a loop: each look at a text has `OFF_LOOP_SECONDS`."""

    def start(self, pace: Pace) -> Clock:
        return Clock(OFF_LOOP_SECONDS, False)

    def stop(self, clock: Clock) -> None: ...

    def ran_out(self, pace: Pace) -> Exception:
        return too_long()


class _OnLoop:
    """The time of one iteration of the running loop, whoever searches in it."""

    def __init__(self) -> None:
        self._spent = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, pace: Pace) -> Clock:
        left = ON_LOOP_SECONDS - self._spent
        if left <= 0 and self._loop is not _running_loop():  # the loop that would have reset it is closed
            self._reset()
            left = ON_LOOP_SECONDS
        if left <= 0 or pace.is_slow:
            raise OffLoop
        return Clock(left, False)

    def stop(self, clock: Clock) -> None:
        took = clock.took()
        if took < _WORTH_COUNTING:
            return
        loop = _running_loop()
        if loop is not None and self._loop is not loop:
            self._spent, self._loop = 0.0, loop
            loop.call_soon(self._reset)
        self._spent += took

    def _reset(self) -> None:
        self._spent, self._loop = 0.0, None

    def ran_out(self, pace: Pace) -> Exception:
        pace.slow_until = time.perf_counter() + _REMEMBERED
        return OffLoop()


class OffLoopTime:
    """The time of one text in threads."""

    def __init__(self) -> None:
        self._left = OFF_LOOP_SECONDS

    def start(self, pace: Pace) -> Clock:
        if self._left <= 0:
            raise too_long()
        return Clock(self._left + ON_LOOP_SECONDS, True)

    def stop(self, clock: Clock) -> None:
        self._left -= max(0.0, clock.took() - ON_LOOP_SECONDS)

    def ran_out(self, pace: Pace) -> Exception:
        return too_long()


UNLIMITED: Final = _Unlimited()
ON_LOOP: Final = _OnLoop()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def too_long() -> RailError:
    return RailError(f"its patterns took longer than {OFF_LOOP_SECONDS:g} s to search this text")


async def off_loop(function: Callable[[OffLoopTime], Result], within: OffLoopTime) -> Result:
    """Run it in one of the few threads that searches have, so that they leave the loop's other threads alone."""
    return await asyncio.get_running_loop().run_in_executor(_threads(), function, within)


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, "railstream-search")
