"""One client connection of HTTP/1.1: a request is written, its response is parsed as it comes, one at a time.

What has come is handed over in one piece per read. An error is raised only after all that came before it was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
import httpx2

HIGH_WATER = 256 * 1024
"""Bytes that nobody has read, past which the socket is not read either."""
MOST_HEADERS = 256
"""Header fields of a response; a peer that sends more is broken."""


class Connection(asyncio.Protocol):
    """``complete``: the response has ended as it should. ``open`` is the set that it stands in while it is open.

    ``taker`` is given what comes while `read` waits, without waking it; false when it cannot take it now.
    """

    def __init__(self, open: set[Connection]) -> None:
        self._loop = asyncio.get_running_loop()
        self._open = open
        self._transport: Any = None
        self._parser: Any = None
        self._parts: list[bytes] = []
        self._size = 0
        self._paused = False
        self._answered = False
        self._error: Exception | None = None
        self._nudged = False
        self._waiter: asyncio.Future[None] | None = None
        self._timeout: float | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.taker: Callable[[bytes], bool] | None = None
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.begun = False
        """Something of the response has come."""
        self.complete = False
        self.reusable = False
        self.closed = False

    def send(self, request: bytes, timeout: float | None) -> None:
        """Begin an exchange. ``timeout``: the longest silence, in seconds."""
        self._parser = httptools.HttpResponseParser(self)
        self._timeout = timeout
        self._answered = self.complete = self.reusable = self.begun = False
        self._error = None
        self.headers = []
        self._forget_unread()
        self._stop_timer()
        self._transport.write(request)

    def _forget_unread(self) -> None:
        """The last answer may have been left with its end unread: nobody else may ever read that."""
        self._parts = []
        self._size = 0
        self._nudged = False
        self.taker = None
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    async def answered(self) -> None:
        """Wait for the head of the response."""
        while not self._answered:
            self._raise()
            await self._wait()

    async def read(self) -> bytes | None:
        """What has come of the body since, which after a nudge is nothing; ``None`` at its end."""
        while not self._parts:
            if self._nudged:
                self._nudged = False
                return b""
            if self.complete:
                return None
            self._raise()
            await self._wait()
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        self._size = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    def nudge(self) -> None:
        """Let `read` return with what there is."""
        self._nudged = True
        self._wake()

    def abort(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.abort()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
        if self.closed:
            raise httpx2.RemoteProtocolError("the connection is closed")

    async def _wait(self) -> None:
        if self._timeout is not None:
            self._deadline = self._loop.time() + self._timeout
            if self._timer is None:
                self._timer = self._loop.call_at(self._deadline, self._ring)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _ring(self) -> None:
        """One timer for many waits: it is set anew when it rings too early, not for every piece."""
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._ring)
        else:
            self._fail(httpx2.ReadTimeout(f"nothing came for {self._timeout:g} s"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self.abort()
        self._wake()

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self.complete:
            return self.abort()  # nobody asked
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.begun = True
            return self._fail(httpx2.RemoteProtocolError(f"the server does not speak HTTP/1.1: {error}"))
        if self.taker is not None and self._parts and not self.complete and self._pass_on(self.taker):
            return
        if self._size > HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def _pass_on(self, taker: Callable[[bytes], bool]) -> bool:
        """Hand over what came, if the reader waits for nothing but it. What goes wrong meanwhile is the reader's."""
        if self._waiter is None or self._waiter.done() or self._nudged:
            return False
        parts = self._parts
        try:
            if not taker(parts[0] if len(parts) == 1 else b"".join(parts)):
                return False
        except Exception as error:
            self._fail(error)
        self._parts = []
        self._size = 0
        if self._timeout is not None:
            self._deadline = self._loop.time() + self._timeout
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._parser = None  # it leads back here
        self._open.discard(self)
        self._stop_timer()
        if not self.complete and self._error is None:
            self._end_with_connection(exc)
        self._wake()

    def _end_with_connection(self, exc: Exception | None) -> None:
        if exc is not None:
            self._error = httpx2.ReadError(str(exc) or type(exc).__name__)
        elif not self._answered:
            self._error = httpx2.RemoteProtocolError("the server closed the connection without an answer")
        elif {name.lower() for name, _ in self.headers} & {b"content-length", b"transfer-encoding"}:
            self._error = httpx2.RemoteProtocolError("the server closed the connection before the body's end")
        else:
            self.complete = True

    # what the parser calls

    def on_message_begin(self) -> None:
        self.begun = True

    def on_status(self, status: bytes) -> None:
        self.reason = status

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))
        if len(self.headers) > MOST_HEADERS:
            raise ValueError(f"more than {MOST_HEADERS} header fields")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._answered = True
            self.reusable = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        if self.status < 200:  # an interim answer: the real one follows
            self.headers = []
            return
        self.complete = True
