"""A sign of life while `railstream chat` waits for an answer: a spinner with the seconds, on a terminal alone."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Self

from rich.console import Console
from rich.status import Status

EVERY: Final = 0.1
"""Seconds between two looks of the shown time."""


class Waiting:
    """An async context: from the question to the first text, or to the end of an answer that is shown as a whole."""

    def __init__(self, console: Console) -> None:
        self._status: Status | None = console.status("waiting") if console.is_terminal else None
        self._detail = ""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._status is not None:
            self._status.start()
            self._task = asyncio.create_task(self._count(self._status, time.monotonic()))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end()

    def show(self, detail: str) -> None:
        """What is known of the answer so far."""
        self._detail = f", {detail}"

    def end(self) -> None:
        """Text follows: the line is given back. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._status is not None:
            self._status.stop()
            self._status = None

    async def _count(self, status: Status, since: float) -> None:
        while True:
            status.update(f"waiting, {time.monotonic() - since:.0f} s{self._detail}")
            await asyncio.sleep(EVERY)
