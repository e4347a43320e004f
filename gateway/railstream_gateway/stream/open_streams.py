"""What this gateway has open: how much there is, and how it ends when the process must.

Draining has two steps: nothing new is taken while what runs goes on; then what still runs is closed, resumably.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from railstream.errors import OverloadedError


class OpenStreams:
    """``limit`` streams at most. Each registers how it is woken."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._wakes: dict[object, Callable[[], None]] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self.draining = False
        self.closing = False

    def __len__(self) -> int:
        return len(self._wakes)

    def check_room(self) -> None:
        """Raises `OverloadedError` when there is no room for another one."""
        if self.draining:
            raise stopping()
        if len(self._wakes) >= self._limit:
            raise OverloadedError(
                f"{len(self._wakes)} streams are open here; the limit is {self._limit}",
                code="too_many_streams",
                status=503,
                retry_after=1,
            )

    def add(self, stream: object, wake: Callable[[], None]) -> None:
        self._wakes[stream] = wake
        self._empty.clear()

    def remove(self, stream: object) -> None:
        """Idempotent."""
        self._wakes.pop(stream, None)
        if not self._wakes:
            self._empty.set()

    async def drain(self, timeout: float) -> None:
        """Take nothing new; let what is open end by itself for ``timeout`` seconds; then close it."""
        self.draining = True
        try:
            async with asyncio.timeout(timeout):
                await self._empty.wait()
        except TimeoutError:
            self.close()

    def close(self) -> None:
        """Make every open stream end now, so that its client resumes elsewhere."""
        self.draining = self.closing = True
        for wake in list(self._wakes.values()):
            wake()

    async def empty(self) -> None:
        await self._empty.wait()


def stopping() -> OverloadedError:
    return OverloadedError("this gateway is stopping; try again", code="draining", status=503, retry_after=1)
