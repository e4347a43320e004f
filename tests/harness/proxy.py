"""A TCP proxy with named faults, switched at run time: what a network does to two processes that talk over it.

Bytes are never lost on a connection that lives on, as TCP promises: a black hole holds them, and lets them go when it
is healed, even those of a connection that its sender has given up meanwhile. A reset loses them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

READ_SIZE = 64 * 1024
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a RST."""

Direction = Literal["up", "down"]
"""``up``: from the client to the server."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to each piece of data; times in seconds, sizes in bytes."""

    name: str = "none"
    latency: float = 0
    bandwidth: float = 0
    slice: int = 0
    held: frozenset[Direction] = frozenset()


NONE = Fault()


def latency(seconds: float) -> Fault:
    return Fault("latency", latency=seconds)


def bandwidth(bytes_per_second: float) -> Fault:
    return Fault("bandwidth", bandwidth=bytes_per_second)


def slicer(size: int = 7, pause: float = 0.0005) -> Fault:
    """Every piece in many small ones, each a TCP segment of its own."""
    return Fault("slicer", slice=size, latency=pause)


def timeout() -> Fault:
    """A black hole: connections stay open, and nothing comes through."""
    return Fault("timeout", held=frozenset(("up", "down")))


def half_open(dead: Direction = "down") -> Fault:
    """One direction is dead; the other one is not."""
    return Fault("half-open", held=frozenset((dead,)))


@dataclass(eq=False)
class Pair:
    """One connection through the proxy: its two sockets."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def reset(self) -> None:
        for writer in (self.client, self.server):
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        for task in self.tasks:
            task.cancel()


class Proxy:
    """``async with Proxy(port)``; `fault`, `reset`, `refuse` and `retarget` act at once, `heal` ends a fault."""

    def __init__(self, target: int, *, host: str = "127.0.0.1", receive_buffer: int = 0) -> None:
        """``receive_buffer``: bytes that may wait here for a slow client; the system's choice if not given."""
        self.target = target
        self.receive_buffer = receive_buffer
        self.host = host
        self.port = 0
        self.fault = NONE
        self._lost_replies: tuple[bytes, int, bool] = (b"", 0, False)
        self._healed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._pairs: set[Pair] = set()
        self._brittle: set[Pair] = set()

    @classmethod
    def to(cls, url: str) -> Self:
        """A proxy before the server that the URL names."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        return cls(parts.port, host=parts.hostname)

    def url(self, target: str) -> str:
        """The target's URL with the proxy's address in it."""
        return urlsplit(target)._replace(netloc=f"{self.host}:{self.port}").geturl()

    @property
    def redis_url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    @property
    def connections(self) -> int:
        return len(self._pairs)

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    def inject(self, fault: Fault) -> None:
        """From now on, to old and new connections alike."""
        self.fault = fault
        self._wake()

    async def heal(self) -> None:
        """End whatever fault there is, a refusal included."""
        self.inject(NONE)
        if self._server is None:
            await self._listen()

    def reset(self) -> int:
        """Break every connection with a RST; new ones are served. Returns how many there were."""
        pairs = tuple(self._pairs)
        for pair in pairs:
            pair.reset()
        self._pairs.clear()
        return len(pairs)

    def reset_at_next_byte(self) -> int:
        """Each connection that is open now is reset when a byte comes from either side. Returns how many there are."""
        self._brittle = set(self._pairs)
        return len(self._brittle)

    async def refuse(self) -> None:
        """Break every connection, and refuse new ones until `heal`."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.reset()
        if server is not None:
            await server.wait_closed()

    def lose_replies(self, holding: bytes, count: int, *, silently: bool) -> None:
        """Of the next ``count`` pieces for the client that hold these bytes nothing arrives.

        Their connections are reset, or stay open ``silently``.
        """
        self._lost_replies = holding, count, silently

    @property
    def replies_to_lose(self) -> int:
        return self._lost_replies[1]

    def _loses(self, data: bytes, pair: Pair) -> bool:
        holding, count, silently = self._lost_replies
        if not count or holding not in data:
            return False
        self._lost_replies = holding, count - 1, silently
        if not silently:
            pair.reset()
        return True

    def retarget(self, port: int) -> None:
        """The name points elsewhere now: old connections break."""
        self.target = port
        self.reset()

    def _wake(self) -> None:
        self._healed.set()
        self._healed = asyncio.Event()

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            answers, server = await self._connect()
        except OSError:
            client.transport.abort()
            return
        pair = Pair(client, server)
        self._pairs.add(pair)
        up = asyncio.create_task(self._pump(pair, reader, server, "up"))
        down = asyncio.create_task(self._pump(pair, answers, client, "down"))
        pair.tasks = [up, down]
        await asyncio.gather(up, down, return_exceptions=True)
        self._pairs.discard(pair)
        self._brittle.discard(pair)
        for writer in (client, server):
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not self.receive_buffer:
            return await asyncio.open_connection(self.host, self.target)
        raw = socket.socket()
        raw.setblocking(False)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(raw, (self.host, self.target))
        except BaseException:
            raw.close()
            raise
        return await asyncio.open_connection(sock=raw, limit=self.receive_buffer)

    async def _pump(
        self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(READ_SIZE):
                if pair in self._brittle:
                    self._brittle.discard(pair)
                    return pair.reset()
                if direction == "down" and self._loses(data, pair):
                    continue
                await self._pass(data, writer, direction)
        await self._open(direction)
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _open(self, direction: Direction) -> None:
        while direction in self.fault.held:
            await self._healed.wait()

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter, direction: Direction) -> None:
        while data:
            await self._open(direction)
            fault = self.fault
            size = fault.slice or (max(1, int(fault.bandwidth / 20)) if fault.bandwidth else len(data))
            piece, data = data[:size], data[size:]
            pause = fault.latency + (len(piece) / fault.bandwidth if fault.bandwidth else 0)
            if pause:
                await asyncio.sleep(pause)
                await self._open(direction)
            writer.write(piece)
            await writer.drain()
