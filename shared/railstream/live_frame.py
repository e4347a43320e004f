"""The live frame: what is published on a request's channel in the same step that appends an entry to its stream.

``<entry id> <event> <length of choice>``, a newline, the JSON of the choice (often empty), the JSON of the data. This
module is its one owner: Python writers and readers, and the scripts that publish inside Redis.
"""

from __future__ import annotations

from typing import Final

from railstream.events import Event
from railstream.ids import EventId

PLAIN: Final = b" chunk 0\n"
"""Between entry id and delta of a chunk that has only a delta: nearly all frames are such."""
LUA: Final = """
local function live(channel, id, event, data)
  redis.call('PUBLISH', channel, id .. ' ' .. event .. ' 0\\n' .. data)
end
"""
"""Begins a script that publishes what it appends; the scripts' events have no choice."""


def encode(entry_id: bytes, name: bytes, data: bytes, choice: bytes = b"") -> bytes:
    return b"%b %b %d\n%b%b" % (entry_id, name, len(choice), choice, data)


def decode(frame: bytes) -> Event:
    """Raises ``ValueError`` when it is no live frame."""
    head, _, body = frame.partition(b"\n")
    entry_id, name, length = head.split(b" ")
    attempt, _, seq = entry_id.partition(b"-")
    position = EventId(int(attempt), int(seq))
    if length == b"0":
        return Event(position, name, body)
    split = int(length)
    return Event(position, name, body[split:], body[:split])
