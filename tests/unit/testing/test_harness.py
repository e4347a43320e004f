"""The harness keeps its word: Redis servers that die and come back, processes that are frozen and reported."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis as blocking
from harness.processes import Process, clean_environment
from harness.proxy import Proxy, latency, timeout
from harness.redis_server import RedisServer
from redis.asyncio import Redis

StartRedis = Callable[..., RedisServer]


def test_a_redis_that_always_syncs_comes_back_with_everything(start_redis: StartRedis) -> None:
    server = start_redis(aof="always")
    with server.client() as client:
        client.set("kept", "yes")
    server.restart()
    with server.client() as client:
        assert client.get("kept") == b"yes"


def test_a_redis_without_a_file_comes_back_empty(start_redis: StartRedis) -> None:
    server = start_redis()
    with server.client() as client:
        client.set("kept", "no")
    server.restart()
    with server.client() as client:
        assert client.get("kept") is None


def test_cutting_the_tail_of_the_file_loses_the_last_write_only(start_redis: StartRedis) -> None:
    server = start_redis(aof="always")
    with server.client() as client:
        client.set("first", "1")
        client.set("last", "2")
    server.kill()
    server.cut_aof(3)
    server.start()
    with server.client() as client:
        assert (client.get("first"), client.get("last")) == (b"1", None)


def test_a_replica_takes_over_what_it_had(start_redis: StartRedis) -> None:
    master = start_redis()
    replica = start_redis(replica_of=master)
    with master.client() as client:
        client.set("kept", "yes")
        client.wait(1, 2000)
    master.kill()
    replica.promote()
    with replica.client() as client:
        assert client.set("more", "yes")
        assert client.get("kept") == b"yes"


def test_a_frozen_redis_answers_only_when_it_thaws(start_redis: StartRedis) -> None:
    server = start_redis()
    server.freeze()
    with blocking.Redis.from_url(server.url, socket_timeout=0.1) as client, pytest.raises(blocking.RedisError):
        client.ping()
    server.thaw()
    with server.client() as client:
        assert client.ping()


@pytest.mark.parametrize("run", [1, 2])
async def test_every_test_finds_an_empty_redis(redis: Redis, run: int) -> None:
    assert await redis.dbsize() == 0
    await redis.set("left", run)


async def test_a_process_that_dies_at_once_says_why(tmp_path: Path) -> None:
    process = Process("dying", [sys.executable, "-c", "raise SystemExit('no port')"], directory=tmp_path).start()
    await process.wait()
    with pytest.raises(RuntimeError, match=r"dying ended with 1 before it was ready:\nno port"):
        await process.ready()


async def test_a_process_gets_no_variable_of_the_product_but_those_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILSTREAM_CONCURRENCY", "1")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "x")
    environment = clean_environment({"RAILSTREAM_LEASE": "2"})
    assert [name for name in environment if name.startswith(("RAILSTREAM_", "OTEL_"))] == ["RAILSTREAM_LEASE"]


async def test_a_proxy_in_front_of_redis_delays_holds_resets_and_refuses(redis_url: str) -> None:
    async with Proxy.to(redis_url) as proxy:
        # Two seconds are enough for a busy machine to connect anew. The client repeats nothing, unlike the product's.
        client = Redis.from_url(proxy.url(redis_url), socket_timeout=2, retry=None)
        assert await client.ping()
        proxy.inject(latency(0.05))
        started = time.monotonic()
        assert await client.ping()
        assert time.monotonic() - started >= 0.1
        proxy.inject(timeout())
        with pytest.raises(blocking.TimeoutError):
            await client.ping()
        await proxy.heal()
        assert await client.ping()
        assert proxy.reset() > 0
        with pytest.raises(blocking.ConnectionError):
            await client.ping()
        await proxy.refuse()
        with pytest.raises(blocking.ConnectionError):
            await client.ping()
        await proxy.heal()
        assert await client.ping()
        await client.aclose()
