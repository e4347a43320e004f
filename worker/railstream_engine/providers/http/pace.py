"""How long an answer is waited for between its parts, and once it has ended.

What counts is what an answer gains: comments and heartbeats keep a connection open, and nobody's deadline away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from railstream_engine.providers.endpoint import Patience
from railstream_engine.providers.http.event_lines import EventLines

END_SIGNAL: Final = 1.0
"""Seconds to wait for the end signal of an answer that is whole."""
LAST_USAGE: Final = 5.0
"""Seconds to wait for the usage of an answer whose choices have all ended, and for choices that nobody began."""


class Pace:
    """The deadline of the next part. ``wake`` is called when it has passed; `ring` again where it is not wanted yet.

    One timer for many parts: it is set anew when it rings too early, or when the end of the answer brings it nearer.
    """

    def __init__(self, reader: EventLines, patience: Patience, last: float) -> None:
        self._reader = reader
        self._chunk = patience.chunk
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._wake: Callable[[], None] | None = None
        self.last = last
        """When the whole answer has to be there."""
        self.since = self._loop.time()
        """When the answer last gained something."""

    @property
    def due(self) -> float:
        if self._reader.whole:
            return self.since + END_SIGNAL
        return self.since + (min(LAST_USAGE, self._chunk) if self._reader.complete else self._chunk)

    def gained(self, now: float) -> None:
        self.since = now
        if self._timer is not None and self._reader.complete:
            self._arm()

    def watch(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when the next part is late."""
        self._wake = wake
        self._arm()

    def passed(self) -> bool:
        """Whether the deadline has passed. Where it has not, it is watched on."""
        passed = self._loop.time() >= self.due
        if not passed and self._wake is not None and self._timer is None:
            self._arm()
        return passed

    def stop(self) -> None:
        self._wake = None
        self._disarm()

    def _arm(self) -> None:
        self._disarm()
        self._timer = self._loop.call_at(self.due, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._loop.time() < self.due:
            self._arm()
        elif self._wake is not None:
            self._wake()
