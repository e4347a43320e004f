"""The job stream is FastStream's: a publisher and a subscriber that know nothing of us can use it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from contract.test_worker import StartStack, ended, start
from faststream import AckPolicy
from faststream.redis import RedisBroker, RedisStreamMessage, StreamSub
from railstream import events, keys
from railstream import job as jobs
from railstream.ids import new_request_id
from railstream.job import Job
from railstream.testing import directive
from railstream_gateway.accept.enqueue import enqueue
from redis.asyncio import Redis


def a_job(**script: Any) -> Job:
    messages = [{"role": "user", "content": directive(**script)}]
    return Job(id=new_request_id(), messages=messages, model="testing", created=time.time(), configs=("main",))


async def test_a_plain_faststream_subscriber_reads_what_a_gateway_queues(redis: Redis, redis_url: str) -> None:
    broker = RedisBroker(redis_url, logger=None)  # type: ignore[arg-type]
    arrived: asyncio.Queue[RedisStreamMessage] = asyncio.Queue()

    async def undecoded(message: RedisStreamMessage) -> RedisStreamMessage:
        return message

    @broker.subscriber(
        stream=StreamSub(keys.jobs(), group="another", consumer="plain"), decoder=undecoded, ack_policy=AckPolicy.ACK
    )
    async def keep(message: Any) -> None:
        arrived.put_nowait(message)

    job = a_job(words=1)
    async with broker:
        await broker.start()
        await enqueue(redis, job, pool="", policy="cancel", headers={"traceparent": "00-1-2-01"}, gateway="g1")
        message = await asyncio.wait_for(arrived.get(), 5)
    assert message.body == jobs.encode(job)
    assert message.correlation_id == job.id
    assert message.headers["traceparent"] == "00-1-2-01"
    assert message.content_type == "application/json"


async def test_a_worker_runs_what_a_plain_faststream_publisher_sends(
    start_stack: StartStack, redis: Redis, redis_url: str
) -> None:
    await start(start_stack)
    job = a_job(words=3)
    await redis.hset(keys.request(job.id), mapping={"status": "queued", "tenant": ""})
    async with RedisBroker(redis_url, logger=None) as broker:  # type: ignore[arg-type]
        await broker.publish(jobs.encode(job), stream=keys.jobs(), correlation_id=job.id)
        assert (await ended(redis, job))[-1][1] == events.FINISHED
