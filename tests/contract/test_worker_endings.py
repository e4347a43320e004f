"""Every accepted request ends once: what a provider sends, what Redis refuses and what it forgets is no exception."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from contract.test_worker import QUICK, Queue, StartStack, ended, log_of, nothing_pends, released, says, start, text_of
from faststream.redis import RedisBroker
from harness.redis_server import RedisServer
from harness.stack import write_configs
from harness.waiting import until
from railstream import events, keys, services, worker_records
from railstream import job as jobs
from railstream.config import ConfigSet
from railstream.conversations import MAIN, RedisSessions
from railstream.dead_letters import dead_letters
from railstream.ids import new_request_id
from railstream.job import Job
from railstream.settings import WorkerSettings
from railstream.testing import Upstream, directive
from railstream.topology.connect import connect
from railstream.worker_records import WorkerRecord
from railstream_worker.app import create_worker
from railstream_worker.queue.group import forget_dead
from railstream_worker.queue.slots import Slots
from redis.asyncio import Redis

HALVES = "@upstream " + json.dumps({"deltas": ["Smile ", {"content": "\ud83d"}, {"content": "\ude00"}, " done"]})
UNTYPED = dict[str, Any]


@pytest.fixture
async def queue(redis: Redis, redis_url: str) -> AsyncGenerator[Queue, None]:
    async with queueing(redis, redis_url) as put:
        yield put


class queueing:
    """Queue jobs as a gateway does, in the Redis of a test's own."""

    def __init__(self, redis: Redis, url: str) -> None:
        self._redis = redis
        self._broker = RedisBroker(url)

    async def __aenter__(self) -> Queue:
        await self._broker.connect()
        return self.put

    async def __aexit__(self, *_: object) -> None:
        await self._broker.stop()

    async def put(
        self, script: UNTYPED | None = None, *, record: bool = True, change: UNTYPED | None = None, **given: Any
    ) -> Job:
        content = given.pop("content", None) or directive(**(script or {}))
        defaults = {"model": "testing", "created": time.time(), "configs": ("main",)}
        job = Job(**{"id": new_request_id(), "messages": [{"role": "user", "content": content}], **defaults, **given})
        if record:
            await self._redis.hset(keys.request(job.id), mapping={"status": "queued", "tenant": ""})
            await self._redis.expire(keys.request(job.id), 3600)
        body = msgspec.json.encode(msgspec.json.decode(jobs.encode(job)) | (change or {}))
        await self._broker.publish(body, stream=keys.jobs(), correlation_id=job.id)
        return job


async def test_half_a_surrogate_pair_on_a_branch_is_an_answer(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    await start(start_stack)
    sessions = RedisSessions(redis)
    session = (await sessions.create("")).id
    request, question = new_request_id(), [{"role": "user", "content": HALVES}]
    await sessions.begin_turn(session, "", MAIN, request, question)
    job = await queue(id=request, content=HALVES, session=session, branch=MAIN)
    assert (await ended(redis, job))[-1][1] == events.FINISHED
    assert (await sessions.messages(session, "", MAIN))[-1].message["content"] == "Smile 😀 done"
    await nothing_pends(redis)


async def test_half_a_surrogate_pair_is_taken_over(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    stack = await start(start_stack)
    script = {"deltas": ["Smile ", {"content": "\ud83d"}, {"content": "\ude00"}, *[" on"] * 60], "rate": 20}
    job = await queue(content="@upstream " + json.dumps(script))
    await released(redis, job, 5)
    await stack.workers[0].kill()
    stack.add_worker(**QUICK)
    assert len({entry.split("-")[0] for entry, _, _ in await ended(redis, job)}) == 2
    await nothing_pends(redis)


async def test_half_a_surrogate_pair_is_read_in_a_plain_answer(start_stack: StartStack) -> None:
    stack = await start_stack()
    async with stack.client() as client:
        answer = await client.chat.completions.create(model="testing", messages=[{"role": "user", "content": HALVES}])
    assert answer.choices[0].message.content == "Smile 😀 done"


async def test_a_stream_that_holds_what_is_no_delta_ends_and_frees_its_branch(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    sessions = RedisSessions(redis)
    session = (await sessions.create("")).id
    request = new_request_id()
    await sessions.begin_turn(session, "", MAIN, request, [{"role": "user", "content": "one"}])
    job = await queue({"words": 200, "rate": 20}, id=request, session=session, branch=MAIN)
    await released(redis, job, 3)
    await stack.workers[0].kill()
    await redis.xadd(keys.events(job.id), {"event": "chunk", "data": b"{no json"}, id="1-9999")
    stack.add_worker(**QUICK)
    log: list[Any] = []

    async def has_ended() -> bool:
        nonlocal log
        log = await redis.xrange(keys.events(job.id))
        return log[-1][1][b"event"] in events.TERMINAL

    await until(has_ended, timeout=20)
    assert log[-1][1][b"event"] == events.FAILED
    await nothing_pends(redis)


async def test_a_request_whose_record_has_expired_is_not_generated(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    job = await queue({"words": 5}, record=False)
    (_, name, data), *more = await ended(redis, job)
    assert (name, data["error"]["code"], data["status"], more) == (events.FAILED, "request_expired", 503, [])
    assert len(stack.upstream.ledger) == 0
    assert await redis.ttl(keys.events(job.id)) > 0
    await nothing_pends(redis)


async def test_a_request_that_waited_past_its_deadline_is_not_generated(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack, workers=0)
    hour_ahead = time.time() + 3600  # the gateway's clock: only the difference of its two moments counts
    late = await queue({"words": 5}, created=hour_ahead, deadline=hour_ahead + 0.05)
    good = await queue({"words": 5}, created=hour_ahead, deadline=hour_ahead + 300)
    await asyncio.sleep(0.1)  # what is waited for is that time passes
    await stack.add_worker(**QUICK).ready()
    data = (await ended(redis, late))[-1][2]
    assert (data["error"]["code"], data["status"], data["retryable"]) == ("queue_timeout", 503, True)
    assert (await ended(redis, good))[-1][1] == events.FINISHED
    assert len(stack.upstream.ledger) == 1


@pytest.mark.parametrize("change", [{"kind": "paint"}, {"version": jobs.VERSION + 1}, {"messages": 5}])
async def test_a_job_that_is_not_understood_ends_by_the_id_of_its_envelope(
    start_stack: StartStack, redis: Redis, queue: Queue, change: dict[str, Any]
) -> None:
    stack = await start(start_stack)
    job = await queue({"words": 5}, change=change)
    data = (await ended(redis, job))[-1][2]
    assert (data["error"]["code"], data["status"], data["retryable"]) == ("job_not_understood", 503, True)
    (letter,) = await dead_letters(redis)
    assert letter.request_id == job.id
    assert len(stack.upstream.ledger) == 0
    await nothing_pends(redis)


async def test_a_job_of_a_later_release_is_left_to_newer_workers_while_some_live(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    newer = WorkerRecord("newer", version=jobs.VERSION + 1)
    await worker_records.write(redis, newer)
    job = await queue({"words": 5}, change={"version": jobs.VERSION + 1})
    await stack.workers[0].logged("left to a newer worker")
    assert await log_of(redis, job) == []
    await worker_records.remove(redis, newer.name)
    assert (await ended(redis, job))[-1][2]["error"]["code"] == "job_not_understood"


async def test_an_emptied_redis_is_given_all_streams_of_a_full_worker_again(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack, workers=0)
    await stack.add_worker(concurrency=3, **QUICK).ready()
    running = [await queue({"words": 150, "rate": 25, "seed": seed}) for seed in range(3)]
    for job in running:
        await released(redis, job, 10)
    await redis.flushall()
    for seed, job in enumerate(running):
        log = await ended(redis, job, timeout=20)
        assert (log[-1][1], text_of(log)) == (events.FINISHED, says(words=150, seed=seed))
        assert {entry.split("-")[0] for entry, _, _ in log} == {"1"}
    assert (await ended(redis, await queue({"words": 3})))[-1][1] == events.FINISHED
    assert await without_ttl(redis) <= FIXED


FIXED = {"railstream:jobs", "railstream:workers", "railstream:dead"}
"""The keys that live for ever, besides the history of each partition."""


async def without_ttl(redis: Redis) -> set[str]:
    names = [name.decode() async for name in redis.scan_iter()]
    return {name for name in names if await redis.ttl(name) < 0 and not name.endswith(":history")}


async def refusing(redis: Redis, how: str) -> None:
    name, value = {"maxmemory": ("maxmemory", "1mb"), "min-replicas": ("min-replicas-to-write", "1")}[how]
    await redis.config_set(name, value)


async def taking_writes(redis: Redis) -> None:
    await redis.config_set("maxmemory", "0")
    await redis.config_set("min-replicas-to-write", "0")
    await redis.replicaof("NO", "ONE")


@pytest.mark.parametrize("how", ["maxmemory", "min-replicas", "replica"])
async def test_a_redis_that_takes_no_writes_costs_no_delivery(
    start_stack: StartStack, start_redis: Callable[..., RedisServer], how: str
) -> None:
    server = start_redis()
    redis = connect(server.url, 5, name="test")
    stack = await start(start_stack, redis_url=server.url, workers=2)
    async with queueing(redis, server.url) as put:
        running = [await put({"words": 100, "rate": 25, "seed": seed}) for seed in range(6)]
        for job in running:
            await released(redis, job, 5)
        if how == "replica":
            # Of a server that is not there: it stays as it is, and takes no writes.
            await redis.replicaof("127.0.0.1", "1")
        else:
            await refusing(redis, how)
        await asyncio.sleep(8)  # four leases: what is waited for is that time passes
        await taking_writes(redis)
        for seed, job in enumerate(running):
            log = await ended(redis, job, timeout=30)
            assert (log[-1][1], text_of(log)) == (events.FINISHED, says(words=100, seed=seed))
            assert {entry.split("-")[0] for entry, _, _ in log} == {"1"}, "nothing was generated twice"
    assert await dead_letters(redis) == []
    assert len(stack.upstream.ledger) == 6
    await redis.aclose()


async def test_dead_workers_are_removed_and_those_that_hold_jobs_are_not(redis: Redis) -> None:
    await redis.xgroup_create(keys.jobs(), keys.GROUP, mkstream=True)
    await redis.xadd(keys.jobs(), {"__data__": b"x"})
    for name in ("idle", "alive", "holder"):
        await redis.xgroup_createconsumer(keys.jobs(), keys.GROUP, name)
    await redis.xreadgroup(keys.GROUP, "holder", {keys.jobs(): ">"})
    await redis.zadd(keys.WORKERS, {"idle": time.time() - 1000, "holder": time.time() - 1000})
    await worker_records.write(redis, WorkerRecord("alive", "pool", 1))
    await forget_dead(redis, keys.jobs())
    consumers: Any = await redis.xinfo_consumers(keys.jobs(), keys.GROUP)
    assert {consumer["name"] for consumer in consumers} == {b"alive", b"holder"}
    assert await worker_records.living(redis, 1000) == [WorkerRecord("alive", "pool", 1)]
    assert await redis.zrange(keys.WORKERS, 0, -1) == [b"alive"]


async def test_entries_that_cannot_be_parsed_take_no_slot_for_good(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack, workers=0)
    await stack.add_worker(concurrency=2, **QUICK).ready()
    envelope = b"\x89BIN\x0d\x0a\x1a\x0a"
    for fields in ({b"\xff": b"\xfe"}, {"__data__": envelope}, {"__data__": envelope + b"\xff" * 20}):
        await redis.xadd(keys.jobs(), fields)  # type: ignore[arg-type]
    job = await queue({"words": 3})
    assert (await ended(redis, job))[-1][1] == events.FINISHED
    await nothing_pends(redis)
    assert [letter.code for letter in await dead_letters(redis)] == ["not_a_job"] * 3


async def test_a_reader_of_jobs_that_is_cancelled_by_something_inside_it_reads_on(
    redis: Redis, redis_url: str, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    take = Slots.take

    async def cancelled_at_first(slots: Slots) -> None:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise asyncio.CancelledError
        await take(slots)

    monkeypatch.setattr(Slots, "take", cancelled_at_first)
    monkeypatch.setattr(services, "PAUSE", 0.01)
    async with Upstream() as upstream:
        configs = ConfigSet.load(write_configs(tmp_path / "configs", upstream.url, {"main": {}}))
        worker = create_worker(WorkerSettings(redis_url=redis_url, lease=2, scan=0.2, redis_timeout=1), configs=configs)
        running = asyncio.create_task(worker.run())
        assert (await ended(redis, await queue({"words": 3})))[-1][1] == events.FINISHED
        worker.exit()
        await running
