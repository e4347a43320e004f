"""How much one local rail reads of one request.

What is counted are searches and characters, not seconds: a request is refused or not whatever else the machine does.
"""

from __future__ import annotations

from typing import Final

from railstream.errors import RailError

from railstream_engine.rails.matching.searcher import LoopShare

MOST_SEARCHES: Final = 50_000
"""Of texts, and of stretches of neighbours: two seconds of one core."""
MOST_CHARACTERS: Final = 16 * 1024 * 1024
"""Four times the largest body, since a text is also read joined to its neighbours and with its escapes undone."""


class Effort:
    """What one rail may still read of one request."""

    def __init__(self) -> None:
        self._searches = 0
        self._characters = 0
        self._share = LoopShare()

    async def spend(self, text: str) -> None:
        """Count one search of this text, and let other tasks run where it is their turn.

        Raises:
            RailError: the request has more to read than a rail reads.
        """
        self._searches += 1
        self._characters += len(text)
        if self._searches > MOST_SEARCHES:
            raise RailError(f"it has searched {MOST_SEARCHES} texts of this request, and their neighbours: send fewer")
        if self._characters > MOST_CHARACTERS:
            raise RailError(f"it has read {MOST_CHARACTERS} characters of this request, in all forms: send less")
        await self._share.give_way()
