"""Requests and tokens per minute, in one process and over Redis: any window, in order, a deadline, no polling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from railstream.topology.connect import connect
from railstream_engine.providers.quota import Booking, Limit, ProcessQuota, Quota
from railstream_worker.queue.quota import RedisQuota
from redis.asyncio import Redis

WINDOW = 1.2
SLICE = WINDOW / 60


@pytest.fixture(params=["process", "redis"])
def quota(request: pytest.FixtureRequest) -> Quota:
    if request.param == "process":
        return ProcessQuota(window=WINDOW)
    return RedisQuota(request.getfixturevalue("redis"), window=WINDOW)


async def booked(quota: Quota, limit: Limit, count: int, *, tokens: int = 1, longest: float = 60) -> list[Booking]:
    return [await quota.reserve(limit, tokens, longest) for _ in range(count)]


async def test_as_many_as_the_limit_go_at_once_and_the_next_waits_for_the_window(quota: Quota) -> None:
    waits = [booking.wait for booking in await booked(quota, Limit("a", requests=3), 7)]
    assert waits[:3] == [0, 0, 0]
    assert all(WINDOW - 0.2 <= wait <= WINDOW + 2 * SLICE for wait in waits[3:6])
    assert 2 * WINDOW - 0.3 <= waits[6] <= 2 * (WINDOW + 2 * SLICE)


async def test_a_longer_wait_than_asked_for_is_refused_and_takes_no_place(quota: Quota) -> None:
    limit = Limit("a", requests=1)
    await booked(quota, limit, 1)
    refused = (await booked(quota, limit, 3, longest=WINDOW / 2))[-1]
    assert refused.slice == -1
    assert refused.wait > WINDOW / 2
    (taken,) = await booked(quota, limit, 1, longest=2 * WINDOW)
    assert taken.wait <= WINDOW + 2 * SLICE


async def test_tokens_are_counted_as_requests_are(quota: Quota) -> None:
    waits = [booking.wait for booking in await booked(quota, Limit("a", tokens=100), 4, tokens=40)]
    assert waits[:2] == [0, 0]
    assert all(wait > WINDOW - 0.2 for wait in waits[2:])


async def test_more_tokens_than_the_whole_limit_wait_for_an_empty_window(quota: Quota) -> None:
    first, second = await booked(quota, Limit("a", tokens=100), 2, tokens=4000)
    assert (first.wait, first.tokens) == (0, 100)
    assert second.wait > WINDOW - 0.2


async def test_what_was_booked_too_much_is_given_back(quota: Quota) -> None:
    limit = Limit("a", tokens=100)
    (booking,) = await booked(quota, limit, 1, tokens=100)
    await quota.settle(limit, booking, used=10)
    (second,) = await booked(quota, limit, 1, tokens=90)
    assert second.wait == 0


async def test_a_call_that_was_not_made_frees_its_place(quota: Quota) -> None:
    limit = Limit("a", requests=1, tokens=10)
    (booking,) = await booked(quota, limit, 1, tokens=10)
    await quota.settle(limit, booking, used=None)
    (second,) = await booked(quota, limit, 1, tokens=10)
    assert second.wait == 0


async def test_limits_of_two_names_know_nothing_of_each_other(quota: Quota) -> None:
    await booked(quota, Limit("a", requests=1), 1)
    (other,) = await booked(quota, Limit("b", requests=1), 1)
    assert other.wait == 0


@pytest.fixture
async def three(redis_url: str) -> AsyncGenerator[list[Redis], None]:
    """Clients as three workers have them."""
    clients = [connect(redis_url, 5, name=f"worker-{number}") for number in range(3)]
    yield clients
    for client in clients:
        await client.aclose()


async def test_a_limit_holds_over_three_workers_in_any_window_and_in_the_order_of_asking(three: list[Redis]) -> None:
    limit, started = Limit("a", requests=4), list[tuple[float, int]]()
    quotas = [RedisQuota(client, window=WINDOW) for client in three]
    loop = asyncio.get_running_loop()

    async def call(number: int) -> None:
        booking = await quotas[number % 3].reserve(limit, 1, 30)
        asked.release()
        await asyncio.sleep(booking.wait)
        started.append((loop.time(), number))

    asked = asyncio.Semaphore(1)
    async with asyncio.TaskGroup() as group:
        for number in range(14):
            await asked.acquire()
            group.create_task(call(number))
    times = [time for time, _ in started]
    assert [number // 4 for _, number in started] == [number // 4 for number in range(14)]
    assert all(later - earlier > WINDOW - 0.05 for earlier, later in zip(times, times[4:], strict=False))
    assert times[-1] - times[0] < 4 * WINDOW


async def test_a_waiting_call_asks_redis_once(redis: Redis) -> None:
    quota = RedisQuota(redis, window=WINDOW)
    limit = Limit("a", requests=1)
    await booked(quota, limit, 1)
    before = (await redis.info("commandstats")).get("cmdstat_evalsha", {}).get("calls", 0)
    (waiting,) = await booked(quota, limit, 1)
    await asyncio.sleep(waiting.wait)
    after = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before == 1


async def test_a_limit_leaves_nothing_behind(redis: Redis) -> None:
    await booked(RedisQuota(redis, window=WINDOW), Limit("a", requests=1), 2)
    (key,) = await redis.keys("railstream:limit:*")
    assert 0 < await redis.pttl(key) < 5 * WINDOW * 1000
