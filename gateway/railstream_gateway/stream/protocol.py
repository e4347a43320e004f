"""uvicorn's HTTP connection with what it lacks: bounded headers in bounded time, and a way to close a slow reader."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from railstream_gateway.stream.stream_response import TRANSPORT, WRITE_BUFFER

HEADER_BYTES: Final = 64 * 1024
"""Of a request's line and headers together."""
IDLE: Final = 75.0
"""Seconds that a connection may say nothing at all; above the idle timeouts of common load balancers."""


class Protocol(HttpToolsProtocol):
    """``header_timeout`` (seconds) is set on a subclass by `with_header_timeout`."""

    header_timeout: float = 10.0
    _deadline: asyncio.TimerHandle | None = None
    _header_bytes: int = 0
    _in_headers: bool = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._set_deadline(IDLE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._in_headers and (self.cycle is None or self.cycle.response_complete):
            self._in_headers = True
            self._header_bytes = 0
            self._set_deadline(self.header_timeout)
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: {"transport": self.transport}}

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._clear_deadline()
        super().on_headers_complete()

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADER_BYTES and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n")
            self.transport.close()

    def _set_deadline(self, seconds: float) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(seconds, self._too_late)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def with_header_timeout(seconds: float) -> type[Protocol]:
    return type("Protocol", (Protocol,), {"header_timeout": seconds})
