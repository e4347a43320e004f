"""Collect a whole stream for a client that asked for one answer."""

from __future__ import annotations

from railstream.events import Started

from railstream_gateway.stream.open_streams import stopping
from railstream_gateway.stream.reading import End, Reading, Receive
from railstream_gateway.views.openai.completion import Fold

SILENCE = 3600.0
"""Seconds between two looks at nothing; a leaving client, an event or a drain wakes the reader before."""


async def collect(reading: Reading, receive: Receive, shared: Started) -> Fold | None:
    """Every event folded, once the stream has ended; ``None`` when the client left before.

    Raises:
        Gap: events are lost.
        OverloadedError: this gateway stops; the answer can be fetched by its id.
    """
    fold = Fold(shared)
    end = End.DRAINED
    reading.watch(receive)
    try:
        while not reading.relay.ended:
            batch = await reading.read(SILENCE)
            fold.add(batch)
            if reading.left and not reading.relay.ended:
                end = End.LEFT
                return None
            if reading.closing and not reading.relay.ended:
                raise stopping()
        end = End.ENDED
        return fold
    finally:
        reading.close(end)
