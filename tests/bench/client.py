"""The load client, a process of its own: raw sockets, one read callback, everything else after the load is over.

While words arrive it only notes the time and keeps the bytes. ``python -m bench.client`` reads an `Order` as JSON
from standard input and writes an `Observation` as MessagePack.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import Any

import msgspec
from harness.http1 import request

from bench.load import Load, Observation, Order, StreamSeen, Target
from bench.reading import read

now = time.monotonic_ns


class Reader(asyncio.Protocol):
    """One request on one connection, read until the server closes it."""

    __slots__ = ("ended", "over", "pieces", "request", "sent")

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.pieces: list[tuple[int, bytes]] = []
        self.sent = 0
        self.ended = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.sent = now()
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.pieces.append((now(), data))

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = self.pieces[-1][0] if self.pieces else now()
        if not self.over.done():
            self.over.set_result(None)


def request_of(load: Load, target: Target, stream: int) -> bytes:
    body = load.body(stream, target.extra)
    headers = {"host": "127.0.0.1", "content-type": "application/json", "accept": "text/event-stream"}
    headers |= {"content-length": str(len(body)), "connection": "close"} | target.headers
    return request("POST", target.path, headers, body)


async def _stream(order: Order, stream: int, at: float) -> Reader:
    loop = asyncio.get_running_loop()
    load, ports = order.load, order.target.ports
    reader = Reader(request_of(load, order.target, stream))
    await asyncio.sleep(at - loop.time())
    await loop.create_connection(lambda: reader, "127.0.0.1", ports[stream % len(ports)])
    try:
        async with asyncio.timeout(load.seconds + load.timeout):
            await reader.over
    except TimeoutError:
        reader.ended = now()
    return reader


async def run(order: Order) -> Observation:
    load = order.load
    start = asyncio.get_running_loop().time() + 0.05
    steps = load.ramp / load.streams
    gc.disable()
    started, cpu = now(), time.process_time()
    streams = [_stream(order, stream, start + stream * steps) for stream in range(load.streams)]
    readers = await asyncio.gather(*streams)
    ended, cpu = now(), time.process_time() - cpu
    seen = [_judge(load, stream, reader) for stream, reader in enumerate(readers)]
    return Observation(started, ended, cpu, seen)


def _judge(load: Load, stream: int, reader: Reader) -> StreamSeen:
    return read(reader.pieces, StreamSeen(reader.sent, reader.ended), load.expected(stream))


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    try:
        from uvloop import run as run_loop
    except ImportError:
        run_loop = asyncio.run
    sys.stdout.buffer.write(msgspec.msgpack.encode(run_loop(run(order))))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
