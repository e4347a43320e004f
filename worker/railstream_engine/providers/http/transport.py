"""HTTP/1.1 for token streams: an httpx2 transport straight on the event loop, with llhttp for its parser.

Under it stays httpx2's client with the provider SDK on top: URLs, auth, retries, redirects, decoding, its errors.
What goes is a dozen coroutines and two timers per chunk, which cost more than the rest of a token's way together.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from urllib.request import getproxies

import httpx2

from railstream_engine.providers.http.connection import Connection
from railstream_engine.providers.http.dialing import dial

BODY = "railstream.body"
"""Response extension: the `Body` itself, below the layers of httpx2 that a chunk need not pass."""
Origin = tuple[str, str, int]


def direct_transport(limits: httpx2.Limits) -> DirectTransport | None:
    """A transport, or ``None`` where a proxy stands in the environment: httpx2's own knows how to use it."""
    if set(getproxies()) & {"http", "https", "all"}:
        return None
    return DirectTransport(keep=limits.max_keepalive_connections or 0, expiry=limits.keepalive_expiry or 0.0)


def body_of(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    """The decoded body of a response, in the pieces that it comes in."""
    body = direct_body_of(response)
    return response.aiter_bytes() if body is None else body.__aiter__()


def direct_body_of(response: httpx2.Response) -> Body | None:
    """The body as our transport reads it; ``None`` where it is another's, or has to be decoded."""
    body = response.extensions.get(BODY)
    return body if isinstance(body, Body) and "content-encoding" not in response.headers else None


class DirectTransport(httpx2.AsyncBaseTransport):
    """``keep`` idle connections at most to one origin, each for ``expiry`` seconds; any number of busy ones."""

    def __init__(self, *, keep: int, expiry: float, ssl_context: ssl.SSLContext | None = None) -> None:
        self._keep = keep
        self._expiry = expiry
        self._ssl = ssl_context
        self._idle: dict[Origin, list[tuple[float, Connection]]] = {}
        self._open: set[Connection] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        content = await request.aread()
        timeouts = request.extensions.get("timeout", {})
        origin = _origin(request.url)
        message = _head(request, len(content)) + content
        connection = self._reuse(origin)
        if connection is None or not await self._sent_again(connection, message, timeouts.get("read")):
            connection = await self._connect(origin, timeouts.get("connect"))
            await _send(connection, message, timeouts.get("read"))
        body = Body(self, origin, connection)
        extensions = {"http_version": b"HTTP/1.1", "reason_phrase": connection.reason, BODY: body}
        return httpx2.Response(connection.status, headers=connection.headers, stream=body, extensions=extensions)

    async def _sent_again(self, connection: Connection, message: bytes, silence: float | None) -> bool:
        """Whether a connection that was kept has answered; one that turns out to be dead has not, and nothing came."""
        try:
            await _send(connection, message, silence)
        except (httpx2.ReadError, httpx2.RemoteProtocolError):
            if connection.begun:
                raise
            return False
        return True

    def _reuse(self, origin: Origin) -> Connection | None:
        """The idle connection that was used last, of those that are still good."""
        idle = self._idle.get(origin, [])
        oldest = asyncio.get_running_loop().time() - self._expiry
        while idle:
            since, connection = idle.pop()
            if since >= oldest and not connection.closed:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin, timeout: float | None) -> Connection:
        scheme, host, port = origin
        loop = asyncio.get_running_loop()
        context = self._context() if scheme == "https" else None

        async def connect(address: str) -> Connection:
            name = host if context else None
            _, connection = await loop.create_connection(
                lambda: Connection(self._open), address, port, ssl=context, server_hostname=name
            )
            return connection

        try:
            async with asyncio.timeout(timeout):
                return await dial(host, port, connect)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(f"no connection to {host}:{port} within {timeout} s") from error
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from error

    def _context(self) -> ssl.SSLContext:
        if self._ssl is None:
            self._ssl = httpx2.create_ssl_context()
            self._ssl.set_alpn_protocols(["http/1.1"])
        return self._ssl

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """A response is over: keep its connection, if it may be used again."""
        idle, now = self._idle.setdefault(origin, []), asyncio.get_running_loop().time()
        while idle and (idle[0][0] < now - self._expiry or idle[0][1].closed):
            idle.pop(0)[1].abort()
        if connection.closed or not connection.reusable or len(idle) >= self._keep:
            return connection.abort()
        idle.append((now, connection))

    async def aclose(self) -> None:
        self._idle.clear()
        for connection in list(self._open):
            connection.abort()


class Body(httpx2.AsyncByteStream):
    """The body of one response. Closing it before its end closes the connection, which is what stops a provider."""

    def __init__(self, transport: DirectTransport, origin: Origin, connection: Connection) -> None:
        self._transport = transport
        self._origin = origin
        self.connection = connection
        self._released = False

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        read = self.connection.read
        while (data := await read()) is not None:
            yield data

    async def aclose(self) -> None:
        if self._released:
            return
        self._released = True
        if self.connection.complete:
            self._transport.give_back(self._origin, self.connection)
        else:
            self.connection.abort()


async def _send(connection: Connection, message: bytes, silence: float | None) -> None:
    """Send a request and wait for the head of its response."""
    try:
        connection.send(message, silence)
        await connection.answered()
    except BaseException:
        connection.abort()
        raise


def _origin(url: httpx2.URL) -> Origin:
    return url.scheme, url.raw_host.decode("ascii").strip("[]"), url.port or (443 if url.scheme == "https" else 80)


def _head(request: httpx2.Request, length: int) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [
        b"%b: %b" % (name, value)
        for name, value in request.headers.raw
        if name.lower() not in (b"content-length", b"transfer-encoding")
    ]
    if length or request.method in ("POST", "PUT", "PATCH"):
        lines.append(b"content-length: %d" % length)
    return b"\r\n".join([*lines, b"", b""])
