"""Labels that stay few: a value that is not known becomes ``_OTHER``, so that no client can make series."""

from __future__ import annotations

from collections.abc import Iterable

from railstream.telemetry.names import OTHER

LIMIT = 64
"""Values that an open set learns before it closes."""


class Bounded:
    """A closed set when it is told its values, else the first `LIMIT` values that it meets."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known = set(known)
        self._room = 0 if self._known else LIMIT

    def __call__(self, value: str) -> str:
        if value in self._known:
            return value
        if self._room == 0 or not value:
            return OTHER
        self._room -= 1
        self._known.add(value)
        return value
