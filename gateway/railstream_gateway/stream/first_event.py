"""Wait with a stream's status line for its first event: what fails before it is an HTTP status with its headers.

SDKs decide by the status whether to repeat a request, and by what exception they report it; both are lost once the
status 200 has been sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from railstream.events import CANCELLED, FAILED, Cancelled, Event, Failed, decode
from starlette.responses import Response

from railstream_gateway.stream.open_streams import stopping
from railstream_gateway.stream.reading import Reading
from railstream_gateway.stream.relay import Gap
from railstream_gateway.stream.view import View
from railstream_gateway.views.errors import error_answer, failure_answer


@dataclass(frozen=True, slots=True)
class First:
    """What decides the status: ``refusal`` in the stream's place, or ``frames`` that follow its headers, if any."""

    frames: bytes = b""
    refusal: Response | None = None


async def first_of(reading: Reading, view: View, patience: float, headers: Mapping[str, str]) -> First:
    """Read until there are frames, the request has failed, or ``patience`` seconds have passed."""
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    while not reading.left:
        try:
            batch = await reading.read(max(0.0, until - loop.time()))
        except Gap as gap:
            reading.lost(gap)
            return First(refusal=error_answer(gap, headers))
        first = _first_in(batch, view, headers) if batch else First()
        if first.frames or first.refusal is not None:
            return first
        if reading.closing:
            return First(refusal=error_answer(stopping(), headers))
        if loop.time() >= until:
            break
    return First()


def _first_in(batch: Sequence[Event], view: View, headers: Mapping[str, str]) -> First:
    failure = _failure_of(batch[-1])
    if failure is None:
        return First(view.frames(batch))
    frames = view.frames(batch[:-1])
    if frames:
        return First(frames + view.frames(batch[-1:]))
    return First(refusal=failure_answer(failure, headers))


def _failure_of(event: Event) -> Failed | Cancelled | None:
    """How the stream failed with this event. A rail's block is an outcome of the stream, and no failure."""
    if event.name not in (FAILED, CANCELLED):
        return None
    ended = decode(event)
    assert isinstance(ended, Failed | Cancelled)
    return ended
