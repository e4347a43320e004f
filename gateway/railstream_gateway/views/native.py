"""The native view of a stream: every event by its name, with its JSON as it stands in Redis.

A chunk of another choice than the first, or with logprobs, has a third line, ``choice``, as the entry has a field.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from railstream.events import Event

from railstream_gateway.stream.relay import Gap
from railstream_gateway.views.openai.frames import gap_object, one_line


class NativeView:
    def prime(self, started: Event) -> None:
        """Nothing is derived from it here."""

    def frames(self, batch: Iterable[Event]) -> bytes:
        return b"".join([_frame(event) for event in batch])

    def chunk(self, position: bytes, delta: bytes) -> bytes:
        return b"id: %b\nevent: chunk\ndata: %b\n\n" % (position, one_line(delta))

    def gap(self, gap: Gap) -> bytes:
        return b"event: gap\ndata: %b\n\n" % msgspec.json.encode(gap_object(gap))


def _frame(event: Event) -> bytes:
    choice = b"choice: %b\n" % one_line(event.choice) if event.choice else b""
    return b"id: %d-%d\nevent: %b\n%bdata: %b\n\n" % (*event.id, event.name, choice, one_line(event.data))
