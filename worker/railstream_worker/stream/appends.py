"""What an attempt has appended, kept for a Redis that comes back without its last second.

At least the newest `HISTORY` appends are kept, without a hole, in little more than their own bytes: most of what a
long generation takes in memory is this.
"""

from __future__ import annotations

from typing import Final, NamedTuple

HISTORY: Final = 2048
"""Appends kept at least: far above what an AOF or a replica lags behind."""
END: Final = b"\0"
"""Between deltas: JSON holds no such byte."""


class Told(NamedTuple):
    """A chunk that has more to say than its delta."""

    delta: bytes
    choice: bytes


class Packed(NamedTuple):
    """Any other append, as it is sent. A script answers once, all else twice: for XADD and for PUBLISH."""

    command: bytes
    script: bool = False


Append = bytes | Told | Packed
"""Of most chunks their delta alone."""


class History:
    """Appends in order, the first kept one with the number ``first``. Of two blocks the older goes when one is full."""

    def __init__(self) -> None:
        self.first = 0
        self._older = b""
        self._newer = bytearray()
        self._in_older = self._in_newer = 0
        self._rare: dict[int, Told | Packed] = {}
        """What is no plain chunk, by number; in its block stands an empty delta."""

    def __len__(self) -> int:
        return self._in_older + self._in_newer

    def append(self, append: Append) -> None:
        if type(append) is bytes:
            self._newer += append
        else:
            assert not isinstance(append, bytes)
            self._rare[self.first + len(self)] = append
        self._newer += END
        self._in_newer += 1
        if self._in_newer == HISTORY:
            self._turn_over()

    def _turn_over(self) -> None:
        self.first += self._in_older
        self._older, self._in_older = bytes(self._newer), self._in_newer
        self._newer, self._in_newer = bytearray(), 0
        self._rare = {seq: append for seq, append in self._rare.items() if seq >= self.first}

    def after(self, seq: int) -> list[tuple[int, Append]]:
        """Numbers and appends that follow, as far as they are kept."""
        deltas = (self._older + self._newer).split(END)[:-1]
        kept = enumerate(deltas, self.first)
        return [(number, self._rare.get(number, delta)) for number, delta in kept if number > seq]
