"""How much one local rail reads of one request, and how a request of many pieces leaves the event loop to others.

What is counted are searches and characters, not seconds: a request is refused or not whatever else the machine does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from railstream.errors import RailError

from railstream_engine.rails.matching.searcher import LoopShare

MOST_SEARCHES: Final = 50_000
"""Of texts, and of stretches of neighbours: two seconds of one core."""
MOST_CHARACTERS: Final = 16 * 1024 * 1024
"""Four times the largest body, since a text is also read joined to its neighbours and with its escapes undone."""
_MANY: Final = 500
"""Values in a request from which on work over all of them is done in a thread."""

Result = TypeVar("Result")


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


async def aside(values: Iterable[Any], function: Callable[..., Result], *arguments: Any) -> Result:
    """The function's result; where there are many values in these, it runs in a thread."""
    if _are_many(values):
        return await asyncio.to_thread(function, *arguments)
    return function(*arguments)


def _are_many(values: Iterable[Any]) -> bool:
    """Whether there are more than `_MANY` values inside of these, found without a look at all of them."""
    left, level = _MANY, list(islice(values, _MANY + 1))
    while level:
        left -= len(level)
        if left < 0:
            return True
        level = list(islice((inner for value in level for inner in _inside(value)), left + 1))
    return False


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()
