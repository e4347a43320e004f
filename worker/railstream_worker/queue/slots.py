"""Room for generations: whoever reads a job holds a slot already, so a worker takes only what it can run."""

from __future__ import annotations

import asyncio


class Slots:
    def __init__(self, size: int) -> None:
        self.size = size
        self._free = asyncio.Semaphore(size)
        self._closed = False

    async def take(self) -> None:
        """Wait for a slot; forever once the slots are closed."""
        await self._free.acquire()
        if self._closed:
            await asyncio.Event().wait()

    def give_back(self) -> None:
        self._free.release()

    def close(self) -> None:
        """No slot is handed out any more: the worker drains."""
        self._closed = True
