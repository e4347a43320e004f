"""A TCP proxy that breaks as it is told: refuses, delays, goes silent, resets; to stand between any two parts.

It forwards bytes and knows no protocol. Faults act on connections that are open and on those to come.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Self
from urllib.parse import urlsplit

READ_SIZE = 64 * 1024


class Proxy:
    """``async with Proxy("127.0.0.1", 6379) as proxy: …proxy.port…``.

    ``latency``: seconds added to each piece, each way. ``silent``: bytes are taken and go nowhere, connections stay
    open (half-open: neither side is told). ``refusing``: new connections are reset at once.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._brittle: set[asyncio.StreamWriter] = set()
        self._audible = asyncio.Event()
        self._audible.set()
        self.port = 0
        self.latency = 0.0
        self.refusing = False
        self.connections = 0

    @classmethod
    def to(cls, url: str) -> Proxy:
        """A proxy before whatever the URL names."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        return cls(parts.hostname, parts.port)

    def url(self, target: str) -> str:
        """The target's URL with the proxy's address in it."""
        return urlsplit(target)._replace(netloc=f"127.0.0.1:{self.port}").geturl()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def silent(self) -> bool:
        return not self._audible.is_set()

    @silent.setter
    def silent(self, value: bool) -> None:
        self._audible.clear() if value else self._audible.set()

    def reset(self) -> int:
        """Cut every open connection with a RST, on both sides; how many sockets it were."""
        writers = tuple(self._writers)
        for writer in writers:
            _reset(writer)
        return len(writers)

    def reset_at_next_byte(self) -> int:
        """Each connection that is open now is reset when a byte comes from either side; how many sockets it were."""
        self._brittle = set(self._writers)
        return len(self._brittle)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            if self.refusing:
                self._cut(writer)
                return
            there, back = await asyncio.open_connection(*self._target)
            self._writers.add(back)
            await self._both(reader, back, there, writer)
        except (OSError, asyncio.CancelledError):
            self._cut(writer)
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)

    async def _both(
        self,
        reader: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        ways = [asyncio.create_task(self._forward(reader, back)), asyncio.create_task(self._forward(there, writer))]
        try:
            await asyncio.wait(ways)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._writers.discard(back)
            if {back, writer} & self._brittle:
                _reset(writer)
            for end in (back, writer):
                end.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One way, until its end, which is passed on. Whatever is read in silence is lost."""
        try:
            while piece := await reader.read(READ_SIZE):
                if writer in self._brittle:
                    raise ConnectionResetError
                if self.silent:
                    await self._audible.wait()
                    continue
                if self.latency:
                    await asyncio.sleep(self.latency)
                writer.write(piece)
                await writer.drain()
            await self._audible.wait()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            self._cut(writer)

    def _cut(self, writer: asyncio.StreamWriter) -> None:
        if not writer.transport.is_closing():
            writer.transport.abort()


def _reset(writer: asyncio.StreamWriter) -> None:
    if not writer.transport.is_closing():
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
