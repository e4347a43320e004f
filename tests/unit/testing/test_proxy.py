"""The fault proxy itself: each named fault does what its name says, at run time, and heals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest
from harness import proxy as faults
from harness.proxy import Proxy

SOON = 0.2
"""Seconds without an answer that count as none: the proof of an absence has to wait."""


@pytest.fixture
async def proxy() -> AsyncGenerator[Proxy, None]:
    """In front of a server that answers what it is sent."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async with (
        await asyncio.start_server(echo, "127.0.0.1", 0) as server,
        Proxy(server.sockets[0].getsockname()[1]) as proxy,
    ):
        yield proxy


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        yield reader, writer
    finally:
        writer.transport.abort()


async def test_without_a_fault_bytes_and_the_end_pass(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        whole = bytes(range(256)) * 4096
        writer.write(whole)
        writer.write_eof()
        assert await reader.read(-1) == whole


async def test_latency_delays_and_changes_nothing(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.inject(faults.latency(0.05))
        began = time.monotonic()
        writer.write(b"x" * 1000)
        assert await reader.readexactly(1000) == b"x" * 1000
        assert time.monotonic() - began >= 0.1


async def test_bandwidth_is_a_bound(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.inject(faults.bandwidth(20_000))
        began = time.monotonic()
        writer.write(b"x" * 4000)
        await reader.readexactly(4000)
        assert 0.2 <= time.monotonic() - began < 2


async def test_a_slicer_cuts_everything_small(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.inject(faults.slicer(3))
        writer.write(b"abcdefgh")
        assert len(await reader.read(100)) <= 3
        await reader.readexactly(5)


async def test_a_black_hole_holds_what_is_sent_until_it_is_healed(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.inject(faults.timeout())
        writer.write(b"held")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), SOON)
        await proxy.heal()
        assert await reader.readexactly(4) == b"held"


async def test_half_open_kills_one_direction_only(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.inject(faults.half_open("down"))
        writer.write(b"arrives, and its answer does not")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), SOON)
        await proxy.heal()
        assert (await reader.read(100)).startswith(b"arrives")


async def test_a_reset_breaks_connections_and_serves_new_ones(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, _):
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
    async with connected(proxy):
        assert proxy.connections == 1


async def test_refuse_refuses_until_it_is_healed_on_the_same_port(proxy: Proxy) -> None:
    port = proxy.port
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await proxy.heal()
    async with connected(proxy):
        assert proxy.port == port


async def test_a_proxy_that_points_elsewhere_breaks_what_pointed_here(proxy: Proxy) -> None:
    async def other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"other")
        writer.close()

    async with await asyncio.start_server(other, "127.0.0.1", 0) as server, connected(proxy) as (reader, _):
        proxy.retarget(server.sockets[0].getsockname()[1])
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await reader.read(-1) == b"other"
        writer.close()


@pytest.mark.parametrize("fault", [True, False])
async def test_a_brittle_connection_is_reset_by_its_next_byte_and_a_later_one_is_not(proxy: Proxy, fault: bool) -> None:
    async with connected(proxy) as (reader, writer):
        if fault:
            assert proxy.reset_at_next_byte() == 1
        writer.write(b"x")
        if fault:
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
        else:
            assert await reader.read(1) == b"x"
    async with connected(proxy):
        assert proxy.connections == 1
