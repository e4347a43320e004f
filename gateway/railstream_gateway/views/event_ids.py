"""Streams without event ids, for clients that read an ``id`` line as part of an error.

sashabaranov/go-openai collects every line that is not ``data:`` and reads an error's JSON from all of them. Such a
client sends ``X-Railstream-Event-Ids: none``, and cannot resume.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from fastapi import Request
from railstream.errors import InvalidRequestError
from railstream.events import Event

from railstream_gateway.stream.relay import Gap
from railstream_gateway.stream.view import View

HEADER: Final = "x-railstream-event-ids"
_ID_LINE: Final = re.compile(rb"^id: \d+-\d+\n", re.MULTILINE)
"""Data stands in lines that begin with ``data:``, so no text of a chunk reads so."""


def wants_event_ids(request: Request) -> bool:
    """Raises `InvalidRequestError` for a header that says neither ``none`` nor ``all``."""
    value = request.headers.get(HEADER, "all").strip().lower()
    if value not in ("all", "none"):
        raise InvalidRequestError(f"X-Railstream-Event-Ids is 'all' or 'none', not {value[:80]!r}", param=HEADER)
    return value == "all"


class WithoutIds:
    """A view whose frames have no ids."""

    def __init__(self, view: View) -> None:
        self._view = view

    def prime(self, started: Event) -> None:
        self._view.prime(started)

    def frames(self, batch: Iterable[Event]) -> bytes:
        return _ID_LINE.sub(b"", self._view.frames(batch))

    def chunk(self, position: bytes, delta: bytes) -> bytes:
        return _ID_LINE.sub(b"", self._view.chunk(position, delta))

    def gap(self, gap: Gap) -> bytes:
        return self._view.gap(gap)
