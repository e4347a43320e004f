"""A stream as an HTTP response: raw ASGI, one send per wake, keep-alives in silence, slow readers closed.

It races the client's leaving with the relay. However it ends, the reading is closed exactly once; a client that did
not get a terminal frame can resume with the last id it has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from railstream.telemetry.names import CANCELLED
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from railstream_gateway.stream.first_event import First, first_of
from railstream_gateway.stream.reading import End, Reading
from railstream_gateway.stream.relay import Gap
from railstream_gateway.stream.view import View
from railstream_gateway.views.openai.frames import KEEP_ALIVE

HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
DRAINING: Final = b": this gateway stops, resume with Last-Event-ID\n"
TRANSPORT: Final = "railstream.transport"
"""ASGI extension: the connection's transport, given by our protocol class."""
OVERFLOW_PATIENCE: Final = 1.0
"""Seconds that one send may take once a reader is further behind than its buffer."""
WRITE_BUFFER: Final = 64 * 1024
"""Bytes not yet taken by the socket, past which a send waits."""
CLOSE_PATIENCE: Final = 1.0
"""Seconds for a closed connection to take its last bytes."""


class ClientGone(Exception):
    """The connection broke while something was sent."""


class StreamResponse(Response):
    """``keep_alive`` and ``send_timeout`` in seconds.

    ``waits``: the status line waits for the first event, one keep-alive interval at most, so that a request that fails
    before has the status of its failure. A stream that is read again has begun, and its failures are frames.
    """

    def __init__(
        self,
        reading: Reading,
        view: View,
        *,
        keep_alive: float,
        send_timeout: float,
        headers: Mapping[str, str],
        waits: bool = False,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = [*HEADERS, *((name.encode(), value.encode()) for name, value in headers.items())]
        self._reading = reading
        self._view = view
        self._answer_headers = headers
        self._waits = waits
        self._keep_alive = keep_alive
        self._send_timeout = send_timeout
        self._loop = asyncio.get_running_loop()
        self._sending_since: float | None = None
        self._slow = False
        self._transport: Any = None
        self._chunked = False
        """The body is sent in HTTP chunks, on a transport that we know."""
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._arrived: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reading = self._reading
        self._transport = (scope.get("extensions") or {}).get(TRANSPORT, {}).get("transport")
        self._chunked = self._transport is not None and scope["http_version"] == "1.1"
        self._task = asyncio.current_task()
        state = scope.setdefault("state", {})
        self._arrived = state.get("arrived")
        reading.relay.overflowed = self._overflowed
        end = End.DRAINED
        watcher = reading.watch(receive)
        self._check_send()
        try:
            first = await first_of(reading, self._view, self._keep_alive, self._answer_headers) if self._waits else None
            if first is not None and first.refusal is not None:
                end = End.DRAINED if reading.closing else End.ENDED
                return await first.refusal(scope, receive, send)
            if reading.left:
                end = End.LEFT
                return await self._gone(watcher)
            await self._start(send, first)
            send = state.get("send", send)
            end = await self._pump(send)
            await self._finish(end, send, watcher)
        except ClientGone:
            end = End.LEFT
        except asyncio.CancelledError:
            if not self._slow:
                raise
            end = End.SLOW
        finally:
            reading.relay.lane = None
            reading.relay.overflowed = _nothing
            if self._timer is not None:
                self._timer.cancel()
            reading.close(end)
            if end is not End.ENDED:
                state["error_type"] = CANCELLED if end is End.LEFT else end.value

    async def _start(self, send: Send, first: First | None) -> None:
        await self._send(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if first is None:
            # An empty body sends nothing yet makes some servers write the headers now.
            await self._body(send, b"")
        elif first.frames:
            await self._frames(send, first.frames)
        else:
            await self._body(send, KEEP_ALIVE)

    async def _pump(self, send: Send) -> End:
        reading, view = self._reading, self._view
        relay = reading.relay
        while not relay.ended:
            if reading.closing:
                return End.DRAINED
            try:
                events = await relay.read(self._keep_alive)
            except Gap as gap:
                self._reading.lost(gap)
                await self._body(send, view.gap(gap))
                return End.ENDED
            if reading.left:
                return End.SLOW if self._slow else End.LEFT
            body = view.frames(events) if events else b""
            if body:
                await self._frames(send, body)
            elif not relay.ended and not reading.closing and not events:
                await self._body(send, KEEP_ALIVE)
        return End.ENDED

    async def _frames(self, send: Send, body: bytes) -> None:
        """Send frames; after the first ones, chunks may pass straight to the socket."""
        await self._body(send, body)
        if self._arrived is not None:
            self._reading.first_event(time.monotonic() - self._arrived)
            self._arrived = None
        if self._chunked:
            self._reading.relay.lane = self._pass_on

    def _pass_on(self, position: bytes, delta: bytes) -> bool:
        """Write a chunk's frame straight to the socket: most of what a wake costs is on the way there."""
        transport = self._transport
        if transport.is_closing() or transport.get_write_buffer_size() > WRITE_BUFFER:
            return False
        body = self._view.chunk(position, delta)
        transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    async def _body(self, send: Send, body: bytes) -> None:
        await self._send(send, {"type": "http.response.body", "body": body, "more_body": True})

    async def _send(self, send: Send, message: dict[str, Any]) -> None:
        self._sending_since = self._loop.time()
        try:
            await send(message)
        except OSError as error:
            raise ClientGone from error
        finally:
            self._sending_since = None

    async def _finish(self, end: End, send: Send, watcher: asyncio.Task[None]) -> None:
        if end is End.DRAINED:
            await self._body(send, DRAINING)
            if self._transport is not None:
                # Without the last chunk of the encoding: a client must see that this is not the end of the stream.
                self._transport.close()
                await self._gone(watcher)
                return
        if end in (End.ENDED, End.DRAINED):
            await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._gone(watcher)

    async def _gone(self, watcher: asyncio.Task[None]) -> None:
        """Wait until the server knows that the connection is closed."""
        await asyncio.wait((watcher,), timeout=CLOSE_PATIENCE)
        if not watcher.done() and self._transport is not None:
            self._transport.abort()
            await asyncio.wait((watcher,), timeout=CLOSE_PATIENCE)

    def _check_send(self) -> None:
        """One timer per stream looks at the send that is under way, so that a send costs no timer of its own."""
        since = self._sending_since
        if since is not None and self._loop.time() - since >= self._send_timeout:
            return self._close_slow()
        self._timer = self._loop.call_later(self._send_timeout / 2, self._check_send)

    def _overflowed(self) -> None:
        since = self._sending_since
        if since is not None:
            wait = max(0.0, since + OVERFLOW_PATIENCE - self._loop.time())
            self._loop.call_later(wait, self._close_if_sending, since)

    def _close_if_sending(self, since: float) -> None:
        if self._sending_since == since:
            self._close_slow()

    def _close_slow(self) -> None:
        if self._slow:
            return
        self._slow = True
        if self._transport is not None:
            self._transport.abort()
        elif self._task is not None:
            self._task.cancel()


def _nothing() -> None:
    """Nobody is behind any more."""
