"""The fenced stream over a real Redis: ids fence, retries do not double, and a lost tail is written again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from harness.proxy import Proxy, half_open
from harness.redis_server import RedisServer
from harness.waiting import until
from railstream import events, keys
from railstream.events import Finished
from railstream.ids import START, new_request_id
from railstream.job import Job
from railstream.topology.connect import connect
from railstream_worker.attempts.released import read_released
from railstream_worker.queue.reservation import Reservation, reserve
from railstream_worker.queue.scripts import END
from railstream_worker.stream.appends import HISTORY
from railstream_worker.stream.fenced_stream import FencedStream
from railstream_worker.stream.publisher import Publisher
from redis.asyncio import Redis

Entry = tuple[str, bytes, bytes]


def a_job() -> Job:
    return Job(id=new_request_id(), model="m", created=1.0, configs=("c",), messages=[])


async def queued(redis: Redis) -> Job:
    """A job whose request has its record, as a gateway leaves it."""
    job = a_job()
    await redis.hset(keys.request(job.id), "status", "queued")
    return job


@asynccontextmanager
async def publishing(url: str, timeout: float = 3) -> AsyncIterator[Publisher]:
    publisher = Publisher(url, timeout=timeout, flush_interval=0.002, name="test")
    running = asyncio.create_task(publisher.run())
    await publisher.connected.wait()
    try:
        yield publisher
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def publisher(redis_url: str) -> AsyncGenerator[Publisher, None]:
    async with publishing(redis_url) as one:
        yield one


async def begin(redis: Redis, publisher: Publisher, job: Job, worker: str = "w1") -> FencedStream:
    reservation = await reserve(redis, job, b"1-1", worker=worker, reason="lease_expired")
    return opened(publisher, job, reservation)


def opened(publisher: Publisher, job: Job, reservation: Reservation) -> FencedStream:
    stream = FencedStream(
        job.id, reservation.attempt, publisher, opening=reservation.opening, after=reservation.after or START
    )
    publisher.open(stream)
    return stream


async def stored(stream: FencedStream, seq: int) -> None:
    await until(lambda: stream.stored >= seq, interval=0.001, what=f"append {seq} is confirmed")


async def end(stream: FencedStream) -> bool:
    name, data = events.encode(Finished(finish_reasons=("stop",)))
    request = keys.request(stream.request_id).encode()
    return await stream.script(END, (stream.key, request), name, data, b"2.0", b"60")


async def entries(redis: Redis, job: Job) -> list[Entry]:
    found: list[Any] = await redis.xrange(keys.events(job.id)) or []
    return [(entry.decode(), fields[b"event"], fields[b"data"]) for entry, fields in found]


async def test_an_attempt_writes_its_events_in_order_under_its_own_ids(redis: Redis, publisher: Publisher) -> None:
    job = await queued(redis)
    stream = await begin(redis, publisher, job)
    for number in range(50):
        stream.chunk(b'{"content":"%d"}' % number)
    assert await end(stream)
    stored = await entries(redis, job)
    assert [entry for entry, _, _ in stored] == [f"1-{seq}" for seq in range(52)]
    assert stored[0][1] == b"started"
    assert [data for _, name, data in stored if name == b"chunk"] == [b'{"content":"%d"}' % n for n in range(50)]
    assert await redis.hget(keys.request(job.id), "status") == b"finished"
    assert 0 < await redis.ttl(keys.events(job.id)) <= 60
    assert 0 < await redis.ttl(keys.request(job.id)) <= 60


async def test_every_append_is_also_published_live(redis: Redis, publisher: Publisher) -> None:
    job = await queued(redis)
    live = redis.pubsub()
    await live.subscribe(keys.live(job.id))
    assert await live.get_message(timeout=5) is not None
    stream = await begin(redis, publisher, job)
    stream.chunk(b'{"content":"a"}')
    stream.chunk(b'{"content":"b"}', b'{"index":1}')
    assert await end(stream)
    heard = [(await live.get_message(timeout=5) or {})["data"] for _ in range(4)]
    assert heard[0].startswith(b"1-0 started 0\n")
    assert heard[1:3] == [b'1-1 chunk 0\n{"content":"a"}', b'1-2 chunk 11\n{"index":1}{"content":"b"}']
    assert heard[3].startswith(b"1-3 finished 0\n")
    await live.aclose()


async def test_a_superseded_attempt_writes_nothing_more(redis: Redis, publisher: Publisher) -> None:
    job = await queued(redis)
    old = await begin(redis, publisher, job)
    old.chunk(b'{"content":"before"}')
    await stored(old, 1)
    new = await begin(redis, publisher, job, "w2")
    assert new.attempt == 2
    old.chunk(b'{"content":"too late"}')
    assert await end(old) is False
    assert old.fenced
    assert await end(new)
    assert [entry for entry, _, _ in await entries(redis, job)] == ["1-0", "1-1", "2-0", "2-1"]


async def test_a_stream_that_has_ended_is_not_begun_again(redis: Redis, publisher: Publisher) -> None:
    job = await queued(redis)
    assert await end(await begin(redis, publisher, job))
    again = await reserve(redis, job, b"1-1", worker="w2", reason="lease_expired")
    assert again.attempt == 0


async def test_a_second_entry_of_the_same_request_is_not_run(redis: Redis, publisher: Publisher) -> None:
    job = await queued(redis)
    await begin(redis, publisher, job)
    second = await reserve(redis, job, b"2-1", worker="w2", reason="lease_expired")
    assert second.attempt == 0


async def test_a_cancel_before_the_first_attempt_ends_the_stream(redis: Redis) -> None:
    job = await queued(redis)
    await redis.xadd(keys.events(job.id), {"event": "cancelled", "data": "{}"}, id="0-1")
    assert (await reserve(redis, job, b"1-1", worker="w1", reason="")).attempt == 0


async def test_a_takeover_reads_all_that_was_released(redis: Redis, publisher: Publisher) -> None:
    job = await queued(redis)
    stream = await begin(redis, publisher, job)
    for text in ("Zwölf ", "Boxkämpfer"):
        stream.chunk(f'{{"content":"{text}"}}'.encode())
    await stored(stream, 2)
    reservation = await reserve(redis, job, b"1-1", worker="w2", reason="lease_expired")
    released = await read_released(redis, job)
    assert (reservation.attempt, str(reservation.after)) == (2, "1-2")
    assert (released.text, released.chunks, released.only_text) == ("Zwölf Boxkämpfer", 2, True)


async def test_a_connection_that_is_cut_loses_and_doubles_nothing(redis: Redis, publisher: Publisher) -> None:
    job = await queued(redis)
    stream = await begin(redis, publisher, job)
    for number in range(300):
        stream.chunk(b'{"content":"%d"}' % number)
        if number % 50 == 25:
            await asyncio.sleep(0)
            await redis.client_kill_filter(_type="normal", skipme=True)
        await publisher.room(stream)
    assert await end(stream)
    assert [entry for entry, _, _ in await entries(redis, job)] == [f"1-{seq}" for seq in range(302)]


async def test_a_redis_that_lost_its_tail_is_given_it_again(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis(aof="always")
    client = connect(server.url, 3, name="test")
    async with publishing(server.url) as publisher:
        job = await queued(client)
        stream = await begin(client, publisher, job)
        for number in range(40):
            stream.chunk(b'{"content":"%d"}' % number)
        await stored(stream, 40)
        server.kill()
        server.cut_aof(2000)
        server.start()
        stream.chunk(b'{"content":"after"}')
        await publisher.connected.wait()
        assert await end(stream)
        found = await entries(client, job)
    assert [entry for entry, _, _ in found] == [f"1-{seq}" for seq in range(43)]
    assert [data for _, name, data in found if name == b"chunk"][:40] == [b'{"content":"%d"}' % n for n in range(40)]
    await client.aclose()


async def go_back(redis: Redis, key: bytes, dump: bytes) -> None:
    """Redis loses its newest writes, as after a crash or a failover; then every connection is cut."""
    await redis.restore(key, 0, dump, replace=True)
    await redis.client_kill_filter(_type="normal", skipme=True)


async def dumped(redis: Redis, key: bytes) -> bytes:
    return bytes(await redis.dump(key) or b"")


async def test_a_stream_whose_history_does_not_reach_back_is_given_up_without_a_hole(
    redis: Redis, publisher: Publisher
) -> None:
    job = await queued(redis)
    stream = await begin(redis, publisher, job)
    for number in range(10):
        stream.chunk(b'{"content":"%d"}' % number)
    await stored(stream, 10)
    early = await dumped(redis, stream.key)
    for number in range(10, 2 * HISTORY + 20):
        await publisher.room(stream)
        stream.chunk(b'{"content":"%d"}' % number)
    await stored(stream, 2 * HISTORY + 20)
    await go_back(redis, stream.key, early)
    await until(lambda: stream.fenced, what="the attempt gives up")
    assert await end(stream) is False
    assert [entry for entry, _, _ in await entries(redis, job)] == [f"1-{seq}" for seq in range(11)]


async def test_an_attempt_is_given_up_when_the_one_before_it_goes_on_after_a_loss(redis_url: str, redis: Redis) -> None:
    """Its first event names the entry that it continues from. Redis forgot that event, and the older attempt wrote."""
    async with publishing(redis_url) as first, publishing(redis_url) as second:
        job = await queued(redis)
        old = await begin(redis, first, job)
        old.chunk(b'{"content":"a"}')
        await stored(old, 1)
        before = await dumped(redis, old.key)
        new = await begin(redis, second, job, "w2")
        new.chunk(b'{"content":"b"}')
        await stored(new, 1)
        await redis.restore(old.key, 0, before, replace=True)
        old.chunk(b'{"content":"goes on"}')
        await stored(old, 2)
        await redis.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: new.fenced, what="the newer attempt gives up")
        assert await end(old)
    assert [entry for entry, _, _ in await entries(redis, job)] == ["1-0", "1-1", "1-2", "1-3"]


async def test_an_attempt_that_redis_forgot_is_written_again_after_the_one_before_it(
    redis: Redis, publisher: Publisher
) -> None:
    job = await queued(redis)
    old = await begin(redis, publisher, job)
    old.chunk(b'{"content":"a"}')
    await stored(old, 1)
    publisher.close(old)
    before = await dumped(redis, old.key)
    new = await begin(redis, publisher, job, "w2")
    new.chunk(b'{"content":"b"}')
    await stored(new, 1)
    await go_back(redis, new.key, before)
    assert await end(new)
    assert [entry for entry, _, _ in await entries(redis, job)] == ["1-0", "1-1", "2-0", "2-1", "2-2"]


async def test_what_is_unconfirmed_is_bounded_so_that_the_history_still_holds_it(redis: Redis, redis_url: str) -> None:
    """A slow Redis: appends arrive and their answers do not."""
    async with Proxy.to(redis_url) as proxy, publishing(proxy.url(redis_url), timeout=60) as publisher:
        job = await queued(redis)
        stream = await begin(redis, publisher, job)
        proxy.inject(half_open("down"))
        count = 0
        while publisher.has_room(stream) and count < 3 * HISTORY:
            stream.chunk(b"{}")
            count += 1
        assert stream.sent - stream.stored < HISTORY
        waiting = asyncio.create_task(publisher.room(stream))
        await until(lambda: arrived(redis, stream, count), what="redis has all, and has confirmed none")
        assert not waiting.done()
        await proxy.heal()
        await waiting
        assert await end(stream)
        assert len(await entries(redis, job)) == count + 2


async def arrived(redis: Redis, stream: FencedStream, count: int) -> bool:
    return int(await redis.xlen(stream.key)) == count + 1


async def test_what_redis_refuses_to_store_is_not_shown_either(
    start_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    """A publisher is told so by the append, and PUBLISH is allowed where writing is not."""
    caplog.set_level(logging.INFO, "railstream_worker.stream.publisher")
    server = start_redis()
    client = connect(server.url, 3, name="test")
    async with publishing(server.url) as publisher, client.pubsub() as live:
        job = await queued(client)
        stream = await begin(client, publisher, job)
        await live.subscribe(keys.live(job.id))
        assert (await live.get_message(timeout=5))["type"] == "subscribe"
        await client.config_set("min-replicas-to-write", 1)
        for number in range(1, 21):
            stream.chunk(b'{"content":"%d"}' % number)
            await asyncio.sleep(0.02)
        assert await live.get_message(timeout=0.2) is None
        await client.config_set("min-replicas-to-write", 0)
        assert await end(stream)
        shown = [(await live.get_message(timeout=5))["data"].split(b" ")[0].decode() for _ in range(21)]
        assert shown == [entry for entry, _, _ in await entries(client, job)][1:]
    await client.aclose()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"], caplog.text


async def test_an_emptied_redis_is_given_the_whole_stream_again(redis: Redis, publisher: Publisher) -> None:
    job = await queued(redis)
    stream = await begin(redis, publisher, job)
    stream.chunk(b'{"content":"a"}')
    await stored(stream, 1)
    await redis.flushall()
    stream.chunk(b'{"content":"b"}')
    assert await end(stream)
    assert [entry for entry, _, _ in await entries(redis, job)] == ["1-0", "1-1", "1-2", "1-3"]
