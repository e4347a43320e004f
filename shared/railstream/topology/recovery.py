"""Try again for as long as Redis is away: one log line for an outage, and a longer pause after each failure."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from redis.exceptions import RedisError

from railstream.logs import Outage

FAILURES: Final = (RedisError, OSError, TimeoutError)
"""What a command or a connection raises while Redis is away or refuses."""
PAUSES: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds after the first, second, … failure in a row; the last one repeats."""


class Recovery:
    """``what`` is named in the log: "<what> is down", "<what> is back after 2.0 s"."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._outage = Outage(log, what)
        self._failures = 0

    def succeeded(self) -> None:
        """It works: the next failure is the first one again."""
        self._outage.end()
        self._failures = 0

    async def failed(self, error: BaseException) -> None:
        """Log the first failure of an outage, and wait before the next try."""
        self._outage.begin(error)
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        await asyncio.sleep(pause)
