"""How events look to a client: the port that a stream is written through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from railstream.events import Event

from railstream_gateway.stream.relay import Gap


class View(Protocol):
    def prime(self, started: Event) -> None:
        """The stream's first event, for a reader that resumes after it."""

    def frames(self, batch: Iterable[Event]) -> bytes:
        """The frames of these events, joined."""

    def chunk(self, position: bytes, delta: bytes) -> bytes:
        """The frame of a chunk without ``choice``; ``position`` is its id."""

    def gap(self, gap: Gap) -> bytes:
        """What is sent in the place of lost events."""
