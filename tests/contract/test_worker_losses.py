"""What Redis may lose or hold wrongly while jobs run: the group, everything, and one key of another type."""

from __future__ import annotations

import json
from typing import Any

from contract.test_worker import QUICK, Queue, StartStack, ended, log_of, nothing_pends, queue, released, says, text_of
from harness.waiting import until
from railstream import events, keys, worker_records
from railstream.dead_letters import dead_letters
from redis.asyncio import Redis

__all__ = ["queue"]


async def test_a_group_that_is_destroyed_makes_nothing_run_twice(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start_stack(gateways=0, workers=0)
    first = stack.add_worker(concurrency=2, **QUICK)
    await first.ready()
    running = [await queue({"words": 60, "rate": 15, "seed": seed}) for seed in range(2)]
    for job in running:
        await released(redis, job, 3)
    waiting = [await queue({"words": 5, "seed": seed}) for seed in range(2, 4)]
    await redis.xgroup_destroy(keys.jobs(), keys.GROUP)
    await stack.add_worker(concurrency=8, **QUICK).ready()  # it makes the group again, and has room for all of them
    for seed, job in enumerate(running + waiting):
        log = await ended(redis, job)
        assert (log[-1][1], {entry.split("-")[0] for entry, _, _ in log}) == (events.FINISHED, {"1"})
        assert text_of(log) == says(words=60 if seed < 2 else 5, seed=seed)
    await nothing_pends(redis)
    assert len(list(stack.upstream.ledger)) == 4, "no call was made twice"


async def test_a_job_that_a_new_group_delivers_again_is_taken_over_when_its_worker_has_died(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    again = {"main": {"railstream": {"on_worker_loss": "regenerate"}}}
    stack = await start_stack(gateways=0, workers=0, configs=again)
    await stack.add_worker(**QUICK).ready()
    job = await queue({"words": 40, "rate": 20, "seed": 1})
    await released(redis, job, 3)
    await stack.workers[0].kill()
    await redis.xgroup_destroy(keys.jobs(), keys.GROUP)
    stack.add_worker(**QUICK)
    log = await ended(redis, job, timeout=20)
    assert (log[-1][1], text_of(log)) == (events.FINISHED, says(words=40, seed=1))
    await nothing_pends(redis)


async def test_a_redis_that_was_emptied_is_given_the_records_of_running_requests_again(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start_stack(gateways=0, workers=0)
    await stack.add_worker(**QUICK).ready()
    await stack.add_gateway().ready()
    job = await queue({"words": 80, "rate": 20})
    await released(redis, job, 3)
    await redis.flushall()

    async def is_known() -> bool:
        return bool(await redis.exists(keys.request(job.id)))

    await until(is_known, what="the record is there before the end")
    assert (await log_of(redis, job))[-1][1] not in events.TERMINAL
    record = await redis.hgetall(keys.request(job.id))
    assert (record[b"status"], record[b"model"], record[b"attempt"]) == (b"running", b"testing", b"1")
    assert await redis.ttl(keys.request(job.id)) > 0
    async with stack.resume(job.id) as stream:
        await stream.read()
    assert stream.done
    assert "error" not in stream.frames[-2].json
    assert (await log_of(redis, job))[-1][1] == events.FINISHED


async def test_a_key_of_another_type_ends_its_own_job_alone(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start_stack(gateways=0, workers=0)
    await stack.add_worker(**QUICK | {"RAILSTREAM_MAX_DELIVERIES": "2"}).ready()
    spoilt, healthy = [await queue({"words": 60, "rate": 20, "seed": seed}) for seed in range(2)]
    for job in (spoilt, healthy):
        await released(redis, job, 3)
    await redis.set(keys.events(spoilt.id), "no stream")

    async def buried() -> list[Any]:
        return await dead_letters(redis)

    log = await ended(redis, healthy)
    assert (log[-1][1], {entry.split("-")[0] for entry, _, _ in log}) == (events.FINISHED, {"1"})
    (letter,) = await until(buried, timeout=30, what="it is dead")
    assert (letter.request_id, json.loads(letter.job)["id"]) == (spoilt.id, spoilt.id)
    await nothing_pends(redis)


async def test_an_end_that_its_record_does_not_take_is_not_repeated_for_ever(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start_stack(gateways=0, workers=0)
    settings = {"RAILSTREAM_MAX_DELIVERIES": "1", "RAILSTREAM_DEAD_RETENTION": "600"}
    await stack.add_worker(**QUICK | settings).ready()
    job = await queue({"words": 30, "rate": 20})
    await released(redis, job, 3)
    await redis.set(keys.request(job.id), "no hash")
    after = await queue({"words": 3})
    assert (await ended(redis, after))[-1][1] == events.FINISHED

    async def buried() -> list[Any]:
        return await dead_letters(redis)

    assert [letter.request_id for letter in await until(buried, timeout=30, what="it is dead")] == [job.id]
    assert 0 < await redis.ttl(keys.DEAD) <= 600
    await nothing_pends(redis)


async def test_a_worker_tells_which_jobs_it_runs(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    stack = await start_stack(gateways=0, workers=0)
    await stack.add_worker(**QUICK).ready()
    job = await queue({"words": 400, "hold": 2})
    await released(redis, job, 2)
    owner, entry = [part.decode() for part in await redis.hmget(keys.request(job.id), "owner", "job")]
    await until(lambda: worker_records.runs(redis, owner, entry), what="it is told")
    stack.upstream.release()
    await ended(redis, job)

    async def runs_no_more() -> bool:
        return not await worker_records.runs(redis, owner, entry)

    await until(runs_no_more, what="it is told no more")
    assert not await worker_records.runs(redis, "nobody", entry)
