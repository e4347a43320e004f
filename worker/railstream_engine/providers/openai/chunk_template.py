"""The chunk of before, as a template: nearly every chunk of a stream differs from it in its content alone.

What starts and ends like it, with one JSON string between, is the same chunk with another content: nothing else of
it needs to be read. A provider whose chunks differ in more (a random field, say) is soon read the long way only.
"""

from __future__ import annotations

import msgspec

from railstream_engine.providers.port import Delta, Part

PATIENCE = 4
"""Templates that fit nothing, one after the other, before no more are made."""
_KEY = b'"content":'

_decode_string = msgspec.json.Decoder(str).decode


class ChunkTemplate:
    """For events that arrive alone, in one piece, as ``data: {...}`` and an empty line."""

    __slots__ = ("_before", "_behind", "_head", "_index", "_patience", "_tail")

    def __init__(self) -> None:
        self._head: bytes | None = None
        """All up to the content's first quote."""
        self._tail = b""
        """All from its last one."""
        self._before = self._behind = 0
        """How much of both is the delta's own."""
        self._index = 0
        self._patience = PATIENCE

    def read(self, data: bytes) -> Delta | None:
        """The delta of a chunk that is like the last one, in content that is not empty."""
        head = self._head
        if head is None or not data.startswith(head) or not data.endswith(self._tail):
            return None
        start, end = len(head) - 1, len(data) - len(self._tail) + 1
        try:
            content = _decode_string(data[start:end])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        if not content:
            return None
        self._patience = PATIENCE
        raw = data[start - self._before : end + self._behind]
        return Delta(self._index, raw, content, exact=True)

    def learn(self, event: bytes, part: Part) -> None:
        """Take an event's data as the template; ``part`` is all that it says."""
        self._head = None
        if not self._patience or type(part) is not Delta:
            return
        if part != Delta(part.index, part.raw, part.content, exact=True):
            return
        raw, quoted = part.raw, b'"%b"' % part.content.encode("utf-8", "surrogatepass")
        if event.count(raw) != 1 or raw.count(_KEY) != 1 or b"\\" in quoted or quoted.count(b'"') != 2:
            return
        before = raw.index(_KEY) + len(_KEY)
        before += raw[before : before + 1] == b" "
        if raw.startswith(quoted, before):
            self._patience -= 1
            self._index = part.index
            self._before, self._behind = before, len(raw) - before - len(quoted)
            start = event.index(raw) + before
            self._head = b"data: " + event[: start + 1]
            self._tail = event[start + len(quoted) - 1 :] + b"\n\n"
