"""The two ends of HTTP/1.1 for tests that look at bytes: a parser of responses (h11), and a server that says anything.

The product reads with llhttp and writes its own frames, so neither end shares code with it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import h11

LARGEST_HEAD = 1024 * 1024
"""Bytes: a response may have as many header fields as a test likes."""


def request(method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """The bytes of a request, with the header fields as they are given."""
    head = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*head, "", ""]).encode() + body


class Response:
    """One response, parsed as its bytes come. ``status`` is 0 until its head is there; header names are lower case."""

    def __init__(self, method: str = "POST") -> None:
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD)
        # h11 must know what is answered. The bytes of the request itself are the test's own.
        self._connection.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        self._connection.send(h11.EndOfMessage())
        self._chunk = b""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False

    def feed(self, data: bytes) -> list[bytes]:
        """What more of the body is there; of a chunked one, each HTTP chunk by itself once it is whole.

        ``data`` is empty at the end of the connection; raises ``h11.RemoteProtocolError`` if that is too early.
        """
        if not self.complete:
            self._connection.receive_data(data)
        parts: list[bytes] = []
        while not self.complete and isinstance(event := self._connection.next_event(), h11.Event):
            self._take(event, parts)
        return parts

    def _take(self, event: h11.Event, parts: list[bytes]) -> None:
        match event:
            case h11.Response():
                self.status = event.status_code
                self.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            case h11.Data():
                self._chunk += bytes(event.data)
                if event.chunk_end or self.headers.get("transfer-encoding", "").lower() != "chunked":
                    parts.append(self._chunk)
                    self._chunk = b""
            case h11.EndOfMessage():
                self.complete = True


Answer = Callable[["RawServer", asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """Reads requests that have a length, and lets ``answer`` write whatever bytes it likes to each."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.port = 0
        self.connections = 0
        self.heads: list[bytes] = []
        """Of all requests, as they came."""
        self.left = asyncio.Event()
        """A client has closed its connection, or the server has."""

    @property
    def requests(self) -> int:
        return len(self.heads)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                self.heads.append(head)
                await self._answer(self, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.left.set()
            writer.close()


@asynccontextmanager
async def serving(
    answer: Answer, host: str = "127.0.0.1", port: int = 0, *, context: ssl.SSLContext | None = None
) -> AsyncGenerator[RawServer, None]:
    server = RawServer(answer)
    listening = await asyncio.start_server(server.serve, host, port, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()  # and no waiting for its connections, as `async with` does since Python 3.12.1
