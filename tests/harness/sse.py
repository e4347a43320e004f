"""A raw SSE client on a socket: keeps every byte, cuts where it is told, and resumes with ``Last-Event-ID``.

It shares no code with the product, so it can judge it. Comment lines are counted and taken out of the frames, wherever
they stand: the openai SDK dies of a comment that is closed by an empty line once an event had an id (it dispatches
an event without data), so a server does well to send ``: keep-alive`` and one newline.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import h11

from harness.http1 import Response, request

READ_SIZE = 64 * 1024


class Frame(NamedTuple):
    """One block of the stream, as its bytes stood, the empty line included, comment lines left out."""

    raw: bytes

    def _field(self, name: bytes) -> str | None:
        lines = [line for line in self.raw.splitlines() if line.startswith(name + b":")]
        return b"\n".join(line[len(name) + 1 :].removeprefix(b" ") for line in lines).decode() if lines else None

    @property
    def id(self) -> str | None:
        return self._field(b"id")

    @property
    def event(self) -> str | None:
        return self._field(b"event")

    @property
    def data(self) -> str | None:
        return self._field(b"data")

    @property
    def json(self) -> Any:
        return json.loads(self.data or "null")

    @property
    def done(self) -> bool:
        return self.data == "[DONE]"

    @property
    def text(self) -> str:
        """What the first choice's delta says; empty for anything else."""
        if self.data is None or self.done:
            return ""
        choices = self.json.get("choices") or [{}]
        return choices[0].get("delta", {}).get("content") or ""


class Incomplete(Exception):
    """The connection ended before the body did. What had come is in the stream's ``frames``."""


class Stream:
    """An open response. ``frames`` holds what was read, comments left out; ``raw`` every byte of the body."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str) -> None:
        self._reader, self._writer = reader, writer
        self._response = Response(method)
        self._pieces: list[bytes] = []
        self._lines = b""
        self.raw = b""
        self.frames: list[Frame] = []
        self.comments = 0

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> dict[str, str]:
        return self._response.headers

    @property
    def text(self) -> str:
        return "".join(frame.text for frame in self.frames)

    @property
    def last_event_id(self) -> str | None:
        return next((frame.id for frame in reversed(self.frames) if frame.id is not None), None)

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]

    @property
    def done(self) -> bool:
        return bool(self.frames) and self.frames[-1].done

    async def _open(self, request: bytes) -> None:
        self._writer.write(request)
        await self._writer.drain()
        while not self.status:
            data = await self._reader.read(READ_SIZE)
            if not data:
                raise asyncio.IncompleteReadError(b"", None)
            self._pieces += self._response.feed(data)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as its HTTP chunks come; `Incomplete` when it is cut."""
        try:
            while self._pieces or not self._response.complete:
                if self._pieces:
                    yield self._pieces.pop(0)
                else:
                    self._pieces += self._response.feed(await self._reader.read(READ_SIZE))
        except (h11.RemoteProtocolError, ConnectionError) as error:
            raise Incomplete(f"cut after {len(self.raw)} bytes and {len(self.frames)} frames: {error!r}") from error

    async def body(self) -> bytes:
        """All that is left of the body."""
        async for piece in self.pieces():
            self.raw += piece
        return self.raw

    async def read(self, *, frames: int | None = None, count: int | None = None) -> list[Frame]:
        """Read on to the end, or until so many frames (comments do not count) or bytes of the body are there.

        What came past the stop is forgotten, as a connection that was cut there would never have brought it.
        """
        if frames is not None and len(self.frames) >= frames:
            return self.frames
        async for piece in self.pieces():
            kept = piece if count is None else piece[: count - len(self.raw)]
            self.raw += kept
            self._split(kept)
            del self.frames[frames if frames is not None else len(self.frames) :]
            if (frames is not None and len(self.frames) >= frames) or (count is not None and len(self.raw) >= count):
                break
        return self.frames

    def _split(self, piece: bytes) -> None:
        *blocks, self._lines = (self._lines + piece).replace(b"\r\n", b"\n").split(b"\n\n")
        for block in blocks:
            lines = block.split(b"\n")
            said = [line for line in lines if not line.startswith(b":")]
            self.comments += len(lines) - len(said)
            if any(said):
                self.frames.append(Frame(b"\n".join(said) + b"\n\n"))

    def reset(self) -> None:
        """Close with a TCP RST, as a network that breaks."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def opened(
    url: str,
    *,
    body: Any = None,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
    after: str | None = None,
    receive_buffer: int | None = None,
) -> AsyncGenerator[Stream, None]:
    """Send a request (POST when there is a body) and hand over the response. ``after`` is the ``Last-Event-ID``.

    ``receive_buffer``: bytes of the socket's buffer, to be a slow reader that the server can notice.
    """
    parts = urlsplit(url)
    raw = socket.socket()
    raw.setblocking(False)
    if receive_buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await asyncio.get_running_loop().sock_connect(raw, (parts.hostname, parts.port))
    except BaseException:
        raw.close()
        raise
    limit = 64 * 1024 * 1024 if receive_buffer is None else receive_buffer
    reader, writer = await asyncio.open_connection(sock=raw, limit=limit)
    method = method or ("GET" if body is None else "POST")
    stream = Stream(reader, writer, method)
    try:
        await stream._open(_request(parts.netloc, url, body, method, dict(headers or {}), after))
        yield stream
    finally:
        stream.close()


def _request(host: str, url: str, body: Any, method: str, headers: dict[str, str], after: str | None) -> bytes:
    payload = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    target = urlsplit(url)._replace(scheme="", netloc="").geturl() or "/"
    lines = {"host": host, "accept": "text/event-stream", "connection": "close"}
    if body is not None:
        lines |= {"content-type": "application/json", "content-length": str(len(payload))}
    if after is not None:
        lines["last-event-id"] = after
    return request(method, target, lines | headers, payload)


async def fetch(url: str, **request: Any) -> tuple[int, Any]:
    """Status and JSON of a request that does not stream."""
    async with opened(url, **request) as stream:
        raw = await stream.body()
        return stream.status, json.loads(raw) if raw else None
