"""One client's reading of one request: its relay, its place among what is open, and what its going away means."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from railstream.events import Event

from railstream_gateway.accept.admission import unavailable
from railstream_gateway.gateway import Gateway
from railstream_gateway.stream.cursor import FROM_THE_START, Position
from railstream_gateway.stream.relay import Gap, Relay

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class End(enum.Enum):
    """How a reading ended."""

    ENDED = "ended"
    """With the stream, or with a gap."""
    LEFT = "left"
    SLOW = "slow"
    """We closed a client that did not take what it was sent."""
    DRAINED = "drained"
    """This gateway stops."""


class Reading:
    """`open` it, `read` until ``relay.ended``, `close` it once, whatever happens."""

    def __init__(
        self,
        gateway: Gateway,
        request_id: str,
        *,
        position: Position = FROM_THE_START,
        counted: bool = True,
    ) -> None:
        """``counted``: the request's reader count includes it, because the request may still run."""
        self._gateway = gateway
        self.request_id = request_id
        self.position = position
        self._counted = counted
        self.left = False
        self.first_event_seconds: float | None = None
        self._closed = False
        self._watcher: asyncio.Task[None] | None = None
        self.relay = Relay(
            gateway.redis,
            gateway.hub,
            request_id,
            after=position.after,
            limit=gateway.settings.client_buffer,
            check=gateway.jobs.check,
        )

    async def open(self, *, new: bool = False) -> None:
        """Raises `OverloadedError` when the channel cannot be heard."""
        self._gateway.open_streams.add(self, self.relay.wake)
        self._gateway.telemetry.instruments.stream_opened()
        try:
            await self.relay.open(new=new)
        except TimeoutError:
            self.abandon()
            raise unavailable() from None
        except BaseException:
            self.abandon()
            raise

    def watch(self, receive: Receive) -> asyncio.Task[None]:
        """Notice when the client leaves."""
        self._watcher = asyncio.create_task(self._watch(receive))
        return self._watcher

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left = True
        self.relay.wake()

    @property
    def closing(self) -> bool:
        return self._gateway.open_streams.closing

    async def read(self, timeout: float) -> list[Event]:
        return await self.relay.read(timeout)

    def lost(self, gap: Gap) -> None:
        """The reader is told of a gap."""
        self._gateway.telemetry.instruments.gap(gap.reason)

    def first_event(self, seconds: float) -> None:
        """``seconds`` from the request's arrival to the first event that its client was sent."""
        self.first_event_seconds = round(seconds, 4)
        self._gateway.telemetry.instruments.first_event(seconds)

    def abandon(self) -> None:
        """Nothing was queued: nobody has to know."""
        self._counted = False
        self.close(End.DRAINED)

    def close(self, end: End) -> None:
        """Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._gateway.telemetry.instruments.stream_closed()
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None
        self.relay.close()
        self._gateway.open_streams.remove(self)
        if not self._counted or self.relay.ended:
            return
        if end in (End.LEFT, End.SLOW):
            self._gateway.presence.leave(self.request_id, closed_by_us=end is End.SLOW)
        else:
            self._gateway.presence.release(self.request_id)
