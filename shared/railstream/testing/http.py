"""HTTP/1.1 in one protocol class: requests in, one at a time per connection; responses plain or chunked.

A connection that is lost tells its response at once. Every `Response.write` is one write to the socket.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
PHRASES = {status.value: status.phrase for status in HTTPStatus}
SERVER = b"railstream-testing-upstream"


class Request(NamedTuple):
    """``headers`` have lower-case names."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


Handler = Callable[[Request, "Response"], Awaitable[None]]


class BadRequest(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Response:
    """One answer on one connection. ``on_close`` is called when the client leaves before the end."""

    def __init__(self, connection: Connection, *, keep: bool) -> None:
        self._connection = connection
        self._keep = keep
        self._chunked = False
        self.started = False
        self.ended = False
        self.on_close: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None

    @property
    def closed(self) -> bool:
        return self._connection.closed

    @property
    def blocked(self) -> bool:
        """The client does not read: `on_drain` is called when it does again."""
        return self._connection.blocked

    def start(self, status: int, headers: Mapping[str, str], length: int | None = None) -> None:
        self.started = True
        self._chunked = length is None
        self._connection.write(self._head(status, headers, length))

    def _head(self, status: int, headers: Mapping[str, str], length: int | None) -> bytes:
        lines = [b"HTTP/1.1 %d %b" % (status, PHRASES.get(status, "Overloaded").encode()), b"server: " + SERVER]
        lines += [f"{name}: {value}".encode() for name, value in headers.items()]
        lines.append(b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length)
        if not self._keep:
            lines.append(b"connection: close")
        return b"\r\n".join([*lines, b"", b""])

    def write(self, data: bytes) -> None:
        self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        if self._chunked:
            self._connection.write(b"0\r\n\r\n")
        self.ended = True
        if not self._keep:
            self._connection.close()

    def json(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        """A whole response in one write."""
        body = msgspec.json.encode(value)
        self.started = True
        head = self._head(status, {"content-type": "application/json"} | dict(headers or {}), len(body))
        self._connection.write(head + body)
        self.end()

    def cut(self) -> None:
        """Close without an end: the client sees an incomplete body."""
        self.ended = True
        self._connection.close()

    def reset(self) -> None:
        """Close with a TCP RST."""
        self.ended = True
        self._connection.reset()


class Connection(asyncio.Protocol):
    """One client connection: keep-alive, pipelined requests wait for their turn."""

    def __init__(self, handler: Handler, connections: set[Connection]) -> None:
        self._handler = handler
        self._connections = connections
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._response: Response | None = None
        self._transport: asyncio.Transport | None = None
        self._continued = False
        self.blocked = False
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._connections.discard(self)
        response = self._response
        if response is not None and not response.ended and response.on_close is not None:
            response.on_close()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        if self._response is not None and self._response.on_drain is not None:
            self._response.on_drain()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None:
            self._next()

    def _next(self) -> None:
        try:
            request = self._parse()
        except BadRequest as error:
            response = Response(self, keep=False)
            response.json(error.status, {"error": {"message": str(error), "type": "invalid_request_error"}})
            return
        if request is None or self.closed:
            return
        response = self._response = Response(self, keep=request.headers.get("connection", "").lower() != "close")
        self._task = asyncio.get_running_loop().create_task(self._answer(request, response))

    async def _answer(self, request: Request, response: Response) -> None:
        try:
            await self._handler(request, response)
        except asyncio.CancelledError:
            if not self.closed:
                raise
        except Exception as error:
            if response.started:
                self.reset()
            else:
                response.json(500, {"error": {"message": repr(error), "type": "server_error"}})
            raise
        finally:
            self._task = self._response = None
        if not self.closed and self._buffer:
            self._next()

    def _parse(self) -> Request | None:
        """The next whole request of the buffer, taken out of it; ``None`` while it is not all there."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise BadRequest(431, f"request headers are over {MAX_HEAD} bytes")
            return None
        request_line, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        try:
            method, target, _ = request_line.split(" ")
            pairs = (line.split(":", 1) for line in lines)
            headers = {name.strip().lower(): value.strip() for name, value in pairs}
            body, used = self._body(headers, end + 4)
        except ValueError as error:
            raise BadRequest(400, f"not HTTP/1.1: {error}") from error
        if body is None:
            if headers.get("expect", "").lower() == "100-continue" and not self._continued:
                self._continued = True
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        self._continued = False
        del self._buffer[:used]
        parts = urlsplit(target)
        return Request(method, unquote(parts.path), dict(parse_qsl(parts.query)), headers, body)

    def _body(self, headers: Mapping[str, str], start: int) -> tuple[bytes | None, int]:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return _dechunk(self._buffer, start)
        length = int(headers.get("content-length", "0"))
        if not 0 <= length <= MAX_BODY:
            raise BadRequest(413, f"request body is over {MAX_BODY} bytes")
        if len(self._buffer) < start + length:
            return None, start
        return bytes(self._buffer[start : start + length]), start + length

    def write(self, data: bytes) -> None:
        if not self.closed and self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        if self._transport is None or self.closed:
            return
        linger = struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()


def _dechunk(buffer: bytearray, at: int) -> tuple[bytes | None, int]:
    body = bytearray()
    while (line := buffer.find(b"\r\n", at)) >= 0:
        size = int(buffer[at:line].split(b";")[0], 16)
        at = line + 2
        if len(body) + size > MAX_BODY:
            raise BadRequest(413, f"request body is over {MAX_BODY} bytes")
        if len(buffer) < at + size + 2:
            break
        body += buffer[at : at + size]
        at += size + 2
        if size == 0:
            return bytes(body), at
    return None, at
