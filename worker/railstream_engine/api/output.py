"""Released deltas, read back as what they say, and kept until the caller takes them.

There is room for so many: a caller that reads slowly slows the provider down, and memory stays bounded.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any, Final

import msgspec

ROOM: Final = 64
"""Chunks that may wait for the caller before the provider is read no further."""


class Said(msgspec.Struct, gc=False):
    """What one delta says."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """The model's own refusal is text too: else the answer would be empty."""
        return (self.content or "") + (self.refusal or "")


class _Choice(msgspec.Struct, gc=False):
    index: int = 0


_decode = msgspec.json.Decoder(Said).decode
_decode_choice = msgspec.json.Decoder(_Choice).decode


def read(delta: bytes) -> Said:
    try:
        return _decode(delta)
    except msgspec.MsgspecError:  # half of a surrogate pair: legal JSON, which msgspec refuses
        fields = json.loads(delta)
        return Said(**{name: fields.get(name) for name in Said.__struct_fields__})


class Sheet:
    """A sink that keeps what the first choice says, as a whole."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.tool_calls: list[dict[str, Any]] = []

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        if choice and _decode_choice(choice).index:
            return
        said = read(delta)
        if said.text:
            self.text(said.text)
        self.reasoning.append(said.reasoning_content or said.reasoning or "")
        for fragment in said.tool_calls or ():
            self._tool(fragment)

    def text(self, text: str) -> None:
        self.texts.append(text)

    async def room(self) -> None:
        """Always: it is read at the end."""

    def has_room(self) -> bool:
        """A program's own code stands on the way to here: it sees all parts in turn."""
        return False

    def _tool(self, fragment: dict[str, Any]) -> None:
        number = fragment.get("index", 0)
        while len(self.tool_calls) <= number:
            self.tool_calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call, function = self.tool_calls[number], fragment.get("function") or {}
        call["id"] = call["id"] or fragment.get("id") or ""
        for key in ("name", "arguments"):
            call["function"][key] += function.get(key) or ""


class Queue(Sheet):
    """A sink whose texts are taken one by one, while more come."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[str] = deque()
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._ended = False

    def text(self, text: str) -> None:
        super().text(text)
        self._waiting.append(text)
        self._changed.set()

    async def room(self) -> None:
        while len(self._waiting) >= ROOM:
            self._taken.clear()
            await self._taken.wait()

    def end(self, _: object = None) -> None:
        """Nothing more comes."""
        self._ended = True
        self._changed.set()

    async def take(self) -> str | None:
        """The next text; ``None`` when all is taken and nothing more comes."""
        while not self._waiting:
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        self._taken.set()
        return self._waiting.popleft()
