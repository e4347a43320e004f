"""A sink that can be full, and one that is closed at first: it keeps what it is given until it is opened."""

from __future__ import annotations

from typing import Protocol

from railstream_engine.generation.emission import Sink


class Room(Sink, Protocol):
    """Where released deltas go; ``room`` waits while there is none."""

    async def room(self) -> None: ...

    def has_room(self) -> bool:
        """Whether `room` would return at once; never true of a sink whose writer must come by in turn."""


class Gate:
    """Between a generation and its sink while the input rails still run."""

    def __init__(self, behind: Room) -> None:
        self._behind = behind
        self._kept: list[tuple[bytes, bytes]] = []
        self.is_open = False

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        if self.is_open:
            self._behind.chunk(delta, choice)
        else:
            self._kept.append((delta, choice))

    async def room(self) -> None:
        await self._behind.room()

    def has_room(self) -> bool:
        return self._behind.has_room()

    def open(self) -> None:
        """Let out what was kept, and all that comes."""
        self.is_open = True
        kept, self._kept = self._kept, []
        for delta, choice in kept:
            self._behind.chunk(delta, choice)

    def drop(self) -> None:
        """Forget what was kept."""
        self._kept.clear()
