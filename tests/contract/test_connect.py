"""Clients of Redis: no cancellation is lost, at whichever step of a command it comes, and a lost peer is one error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import hiredis
import pytest
import uvloop
from railstream.topology.connect import connect
from railstream.topology.link import Link, pack
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError


async def test_a_command_is_not_sent_once_its_task_was_cancelled_by_itself(redis: Redis) -> None:
    async def cancelled_already() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await redis.eval("return 1", 0)

    await redis.ping()
    for _ in range(50):
        task = asyncio.create_task(cancelled_already())
        await asyncio.wait((task,))
        assert task.cancelled()


async def test_a_cancelled_command_never_returns_as_if_nothing_had_been(redis: Redis) -> None:
    for turns in range(400):
        task = asyncio.create_task(redis.eval("return 1", 0))
        for _ in range(turns % 8):
            await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
            assert task.cancelled(), f"cancelled after {turns % 8} turns of the loop, and it went on"
    assert await redis.eval("return 2", 0) == 2


async def test_a_link_that_is_being_opened_is_left_when_its_task_is_cancelled(redis_url: str) -> None:
    for turns in range(200):
        task = asyncio.create_task(Link.open(redis_url, 3, "test"))
        for _ in range(turns % 25):
            await asyncio.sleep(0)
        if task.done():
            await (await task).close()
            continue
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled(), f"cancelled after {turns % 25} turns of the loop, and it went on"


LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run])


@LOOPS
async def test_a_link_gives_replies_to_whoever_reads_and_then_to_whoever_takes(
    redis_url: str, run: Callable[[Any], None]
) -> None:
    async def talk() -> None:
        link = await Link.open(redis_url, 3, "test")
        link.write(pack(b"ECHO", b"one"))
        assert await link.read() == [b"one"]
        link.write(pack(b"ECHO", b"two") + pack(b"ECHO", b"three" * 100_000) + pack(b"NOSUCH"))
        await asyncio.sleep(0.05)  # some of it comes before anybody takes it
        taken: asyncio.Queue[Any] = asyncio.Queue()

        def take(replies: Iterator[Any]) -> None:
            for reply in replies:
                taken.put_nowait(reply)

        served = asyncio.create_task(link.serve(take))
        assert [await taken.get(), await taken.get()] == [b"two", b"three" * 100_000]
        assert isinstance(await taken.get(), hiredis.ReplyError)
        await link.close()
        with pytest.raises(RedisConnectionError):
            await served
        with pytest.raises(RedisConnectionError):
            await link.read()
        with pytest.raises(RedisConnectionError):
            link.write(pack(b"PING"))

    await asyncio.to_thread(run, talk())


async def test_what_a_taker_raises_ends_the_serving_and_it_is_given_nothing_more(redis_url: str) -> None:
    link = await Link.open(redis_url, 3, "test")
    given: list[Any] = []

    def take(replies: Iterator[Any]) -> None:
        given.extend(replies)
        if given:
            raise ValueError("no")

    served = asyncio.create_task(link.serve(take))
    await asyncio.sleep(0)
    link.write(pack(b"ECHO", b"one"))
    with pytest.raises(ValueError, match="no"):
        await served
    link.write(pack(b"ECHO", b"two"))
    await asyncio.sleep(0.05)
    assert given == [b"one"]
    await link.close()


@LOOPS
async def test_a_connection_that_closed_under_a_command_is_a_connection_error(
    redis_url: str, run: Callable[[Any], None]
) -> None:
    async def send_on_a_closed_connection() -> None:
        client = connect(redis_url, 3, name="test")
        connection: Any = await client.connection_pool.get_connection()
        connection._writer.transport.abort()
        await asyncio.sleep(0.05)
        with pytest.raises(RedisConnectionError):
            await connection.send_command("PING")
        await client.connection_pool.release(connection)
        assert await client.ping(), "and the next command has a new one"
        await client.aclose()

    await asyncio.to_thread(run, send_on_a_closed_connection())
