"""Where a reader goes on: a ``Last-Event-ID`` or ``starting_after``, checked against the stream it is of.

An id that this stream cannot have given out is refused. One whose successors are gone is found by the relay, which
says so with a gap.
"""

from __future__ import annotations

from dataclasses import dataclass

from railstream import keys
from railstream.errors import BadCursorError
from railstream.events import STARTED, Event
from railstream.ids import START, EventId, parse_event_id
from railstream.requests import Record
from redis.asyncio import Redis

from railstream_gateway.stream.relay import to_events
from railstream_gateway.views.openai.frames import OpenAIView


@dataclass(frozen=True, slots=True)
class Position:
    """``after``: the last event that the reader has. ``skip``: frames of the ending that it has as well."""

    after: EventId = START
    skip: int = 0
    started: Event | None = None
    complete: bool = False
    """The reader has everything: there is nothing left to send."""
    read_all: bool = False
    """The reader has every frame that has an id; what is left is ``[DONE]``."""


FROM_THE_START = Position()


def parse_cursor(header: str | None, query: str | None) -> EventId:
    """The one that is given; `START` when none is.

    Raises:
        BadCursorError: it is not an event id, or two different ones are given.
    """
    if header is not None and query is not None and header != query:
        raise BadCursorError(
            f"Last-Event-ID {header[:80]!r} and starting_after {query[:80]!r} differ: send one", param="starting_after"
        )
    value = header if query is None else query
    if value is None or value == "":
        return START
    try:
        return parse_event_id(value)
    except ValueError as error:
        raise BadCursorError(str(error), param="Last-Event-ID" if query is None else "starting_after") from error


async def locate(redis: Redis, record: Record, cursor: EventId, *, native: bool) -> Position:
    """Check ``cursor`` against the stream.

    Raises:
        BadCursorError: the stream has not given it out.
    """
    cursor = record.position_after_retry(cursor)
    if cursor == START:
        return FROM_THE_START
    pipeline = redis.pipeline(transaction=True)
    pipeline.xrange(keys.events(record.id), count=1)
    pipeline.xrevrange(keys.events(record.id), count=1)
    head, tail = map(to_events, await pipeline.execute())
    if not tail:
        if record.ended:
            return Position(cursor)
        raise _beyond(cursor, "nothing has been sent yet")
    first, last = head[0], tail[0]
    started = first if first.name == STARTED else None
    if cursor < first.id and first.id.attempt <= 1 and (started is not None or first.terminal):
        raise _beyond(cursor, f"its first one is {first.id}")
    if cursor < last.id or (cursor == last.id and not last.terminal):
        return Position(cursor, started=started)
    if not last.terminal or cursor.attempt != last.id.attempt:
        raise _beyond(cursor, f"its last one is {last.id}")
    if native:
        if cursor != last.id:
            raise _beyond(cursor, f"it ended with {last.id}")
        return Position(cursor, complete=True)
    return _within_ending(record, cursor, last, started)


def _within_ending(record: Record, cursor: EventId, last: Event, started: Event | None) -> Position:
    """The terminal event is several frames of the OpenAI view, with ids from its own upwards."""
    view = OpenAIView()
    if started is None:
        view.begin(record.started())
    else:
        view.prime(started)
    skip = cursor.seq - last.id.seq + 1
    frames = view.frames_of_ending(last)
    if skip > frames:
        raise _beyond(cursor, f"it ended with {last.id}")
    return Position(EventId(last.id.attempt, last.id.seq - 1), skip=skip, started=started, read_all=skip == frames)


def _beyond(cursor: EventId, known: str) -> BadCursorError:
    return BadCursorError(f"event id {cursor} is not of this stream: {known}", param="Last-Event-ID")
