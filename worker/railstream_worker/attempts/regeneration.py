"""A sink for an answer that is generated again: it passes on only what follows the text that a client already has.

The new text must begin with the released one, character for character. At the first character that differs nothing
passes any more: two texts are never joined.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from railstream_engine.generation.sink import Room

_encode = msgspec.json.Encoder().encode


class RegeneratedSink:
    """``on_difference`` is called once, when the new text turns out to be another one."""

    def __init__(self, sink: Room, released: str, on_difference: Callable[[], None]) -> None:
        self._sink = sink
        self._rest = released
        self._on_difference = on_difference
        self.differs = False

    @property
    def caught_up(self) -> bool:
        """All of the released text has been generated again."""
        return not self._rest and not self.differs

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        if not self._rest:
            self._sink.chunk(delta, choice)
        elif not self.differs:
            self._compare(delta, choice)

    async def room(self) -> None:
        await self._sink.room()

    def has_room(self) -> bool:
        return self._sink.has_room()

    def _compare(self, delta: bytes, choice: bytes) -> None:
        fields: dict[str, Any] = json.loads(delta)
        text = fields.get("content")
        if not isinstance(text, str) or set(fields) - {"content", "role"} or b'"index"' in choice:
            self._differ()
        elif self._rest.startswith(text):
            self._rest = self._rest[len(text) :]
        elif text.startswith(self._rest):
            more, self._rest = text[len(self._rest) :], ""
            self._sink.chunk(_content(more))
        else:
            self._differ()

    def _differ(self) -> None:
        self.differs = True
        self._on_difference()


def _content(text: str) -> bytes:
    try:
        return _encode({"content": text})
    except UnicodeEncodeError:  # half a surrogate pair: legal JSON when escaped
        return json.dumps({"content": text}).encode()
