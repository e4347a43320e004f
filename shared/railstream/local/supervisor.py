"""Keep the children of the local stack alive until somebody asks to stop, then stop them in reverse order.

A child that ends unexpectedly is started again, later each time. One that refuses its settings, or that keeps dying
before the stack was ever ready, ends the stack. No child outlives the supervisor.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self, TextIO

from railstream.local.child import Child
from railstream.local.log import Log

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds before a restart
STEADY = 30.0  # seconds of life after which a death counts as the first one again
EARLY_DEATHS = 3  # of one child before the stack was ready
REFUSED = 2  # exit code of a process that does not accept its settings
POLL = 0.1  # seconds between two looks whether something is ready
STILL_WAITING = 10.0  # seconds of waiting after which the reason is shown


class StackStopped(Exception):
    """Somebody asked to stop before the stack was ready."""


class StackFailed(Exception):
    """The stack cannot run. ``code`` is the exit code to leave with."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class Supervisor:
    """An async context: leaving it stops every child that was started in it."""

    def __init__(self, output: TextIO, names: Iterable[str]) -> None:
        self._log = Log(output, names, on_closed=self.stop)
        self._groups: list[list[Child]] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._stop_asked = asyncio.Event()
        self._failure: StackFailed | None = None
        self._ready = False

    async def __aenter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_asked.set()
        for group in reversed(self._groups):
            await asyncio.gather(*map(self._stop, group))
        await asyncio.gather(*self._keepers)

    def start(self, *group: Child) -> None:
        """Start children that are stopped together, before those that were started earlier."""
        self._groups.append(list(group))
        self._keepers.extend(asyncio.create_task(self._keep(child), name=child.name) for child in group)

    async def until(self, what: str, obstacle: Callable[[], Awaitable[str | None]]) -> None:
        """Wait until ``obstacle()`` is ``None``; now and then say which one is in the way.

        Raises:
            StackStopped, StackFailed
        """
        shown = time.monotonic()
        while reason := await obstacle():
            if await self._stopping_within(POLL):
                raise self._failure or StackStopped
            if time.monotonic() - shown > STILL_WAITING:
                shown = time.monotonic()
                self.say(f"waiting for {what}: {reason}")

    async def serve(self) -> None:
        """Everything is ready: wait until somebody asks to stop."""
        self._ready = True
        await self._stop_asked.wait()
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        self._stop_asked.set()

    def say(self, text: str) -> None:
        self._log.line("up", text)

    def show(self, text: str) -> None:
        """Text to copy from: no prefix."""
        self._log.block(text)

    def _on_signal(self) -> None:
        if self._stop_asked.is_set():
            self.say("stopping at once")
            for child in (child for group in self._groups for child in group):
                child.kill()
            return
        self.say("stopping; once more to stop at once")
        self._stop_asked.set()

    async def _stop(self, child: Child) -> None:
        if not await child.stop():
            self.say(f"{child.name} did not stop in time and was killed")

    async def _keep(self, child: Child) -> None:
        deaths = 0
        while not self._stop_asked.is_set():
            started = time.monotonic()
            code = await child.run(lambda line: self._log.line(child.name, line))
            if code is None or self._stop_asked.is_set():
                return
            deaths = 1 if time.monotonic() - started > STEADY else deaths + 1
            if self._is_hopeless(code, deaths):
                self._fail(f"{child.name} {_ending(code)}; see its lines above", REFUSED if code == REFUSED else 1)
                return
            pause = min(FIRST_PAUSE * 2 ** (deaths - 1), LONGEST_PAUSE)
            self.say(f"{child.name} {_ending(code)}; it is started again in {pause:g} s")
            await self._stopping_within(pause)

    def _is_hopeless(self, code: int, deaths: int) -> bool:
        return not self._ready and (code == REFUSED or deaths >= EARLY_DEATHS)

    def _fail(self, message: str, code: int) -> None:
        self._failure = self._failure or StackFailed(message, code)
        self._stop_asked.set()

    async def _stopping_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stop_asked.wait(), seconds)
        except TimeoutError:
            return False
        return True


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
