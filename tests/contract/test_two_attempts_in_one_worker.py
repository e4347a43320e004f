"""A worker that lost a job and was given it again holds two attempts of it for a moment: neither harms the other."""

from __future__ import annotations

import asyncio
from typing import Any

from harness.waiting import until
from railstream import keys
from railstream.ids import new_request_id
from railstream.job import Job
from railstream_worker.queue.reservation import reserve
from railstream_worker.stream.fenced_stream import FencedStream
from railstream_worker.stream.publisher import Publisher
from redis.asyncio import Redis


async def test_the_later_attempt_loses_nothing_when_the_earlier_one_is_opened_after_it(
    redis: Redis, redis_url: str
) -> None:
    job = Job(id=new_request_id(), model="m", created=1.0, configs=("c",), messages=[])
    await redis.hset(keys.request(job.id), "status", "queued")
    older, newer = [await reserve(redis, job, b"1-1", worker="w", reason="lease_expired") for _ in range(2)]
    publisher = Publisher(redis_url, timeout=3, flush_interval=0, name="test")
    streams = [
        FencedStream(job.id, reserved.attempt, publisher, opening=reserved.opening, after=reserved.after)
        for reserved in (newer, older)
    ]
    for stream in streams:
        publisher.open(stream)
    streams[0].chunk(b'{"content":"said while Redis was away"}')
    running = asyncio.create_task(publisher.run())
    await publisher.connected.wait()
    streams[0].chunk(b'{"content":"said when it was back"}')
    await until(lambda: streams[0].stored == 2 and streams[1].fenced, what="one is stored, the other one fenced")
    publisher.close(streams[1])
    entries: Any = await redis.xrange(keys.events(job.id))
    assert [entry for entry, _ in entries] == [b"1-0", b"2-0", b"2-1", b"2-2"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
