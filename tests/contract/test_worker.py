"""A worker process between a real Redis and a paced upstream: every job gets exactly one end, whatever happens."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from faststream.redis import RedisBroker
from harness.processes import Worker
from harness.stack import Stack
from harness.waiting import free_port, until
from railstream import events, keys
from railstream import job as jobs
from railstream.conversations import MAIN, RedisSessions
from railstream.dead_letters import dead_letters, retry
from railstream.ids import new_request_id
from railstream.job import Job
from railstream.testing import Script, directive
from redis.asyncio import Redis

QUICK = {"RAILSTREAM_LEASE": "2", "RAILSTREAM_SCAN": "0.2", "RAILSTREAM_REDIS_TIMEOUT": "1"}
"""A short lease, and still one that a loaded machine can renew."""
Entry = tuple[str, bytes, Any]
StartStack = Callable[..., Awaitable[Stack]]
Queue = Callable[..., Awaitable[Job]]


@pytest.fixture
async def queue(redis: Redis, redis_url: str) -> AsyncGenerator[Queue, None]:
    """Queue a job as a gateway does: its hash, then its message."""
    broker = RedisBroker(redis_url)
    await broker.connect()

    async def put(script: dict[str, Any] | None = None, **given: Any) -> Job:
        said = directive(**(script or {}))
        defaults = {"model": "testing", "created": time.time(), "configs": ("main",)}
        job = Job(**{"id": new_request_id(), "messages": [{"role": "user", "content": said}], **defaults, **given})
        await redis.hset(keys.request(job.id), mapping={"status": "queued", "tenant": ""})
        await broker.publish(jobs.encode(job), stream=keys.jobs(), correlation_id=job.id)
        return job

    yield put
    await broker.stop()


async def log_of(redis: Redis, job: Job) -> list[Entry]:
    found: list[Any] = await redis.xrange(keys.events(job.id)) or []
    return [(entry.decode(), fields[b"event"], json.loads(fields[b"data"])) for entry, fields in found]


async def ended(redis: Redis, job: Job, timeout: float = 15) -> list[Entry]:
    """The whole log, once it has its end."""

    async def asked() -> list[Entry]:
        log = await log_of(redis, job)
        return log if log and log[-1][1] in events.TERMINAL else []

    log: list[Entry] = await until(asked, timeout=timeout, what=f"{job.id} ends")
    assert sum(name in events.TERMINAL for _, name, _ in log) == 1
    return log


async def released(redis: Redis, job: Job, count: int) -> None:
    async def asked() -> bool:
        return sum(name == events.CHUNK for _, name, _ in await log_of(redis, job)) >= count

    await until(asked, what=f"{count} chunks of {job.id}")


async def nothing_pends(redis: Redis) -> None:
    async def asked() -> bool:
        return (await redis.xlen(keys.jobs())) == 0

    await until(asked, what="the job stream is empty")


def text_of(log: list[Entry]) -> str:
    return "".join(data.get("content") or "" for _, name, data in log if name == events.CHUNK)


def says(**script: Any) -> str:
    """What the upstream answers from this script."""
    return "".join(Script(**script).says())


AGAIN = {"main": {"railstream": {"on_worker_loss": "regenerate"}}}
ON = {"main": {"railstream": {"on_worker_loss": "continue"}}}


async def start(start_stack: StartStack, workers: int = 1, **given: Any) -> Stack:
    """Workers whose answers survive them: the upstream's model does not continue one, so it is generated again."""
    stack = await start_stack(gateways=0, workers=0, **{"configs": AGAIN} | given)
    for _ in range(workers):
        stack.add_worker(**QUICK)
    await stack.ready()
    return stack


async def test_an_answer_ends_with_its_usage_and_its_job_is_gone(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    await start(start_stack)
    job = await queue({"words": 12, "seed": 3})
    log = await ended(redis, job)
    assert text_of(log) == says(words=12, seed=3)
    assert [name for _, name, _ in log][-2:] == [events.USAGE, events.FINISHED]
    assert log[-1][2]["finish_reasons"] == ["stop"]
    assert log[-1][2]["usage"]["completion_tokens"] == 12
    await nothing_pends(redis)


BROKEN: list[tuple[dict[str, Any], str, int]] = [
    ({"fault": "early_end", "at": 3, "words": 9}, "truncated", 502),
    ({"fault": "reset", "at": 3, "words": 9}, "connection", 502),
    ({"fault": "error_during", "at": 3, "words": 9}, "provider", 502),
    ({"fault": "bad_json", "at": 3, "words": 9}, "provider", 502),
    ({"fault": "error_before", "status": 401}, "authentication", 502),
    ({"fault": "error_before", "status": 404}, "model_not_found", 404),
    ({"fault": "error_before", "status": 400}, "invalid_request", 400),
    ({"fault": "error_before", "status": 500}, "provider", 502),
    ({"fault": "error_before", "status": 429, "retry_after": 7}, "rate_limit_exceeded", 429),
    ({"fault": "hang", "at": 3, "words": 9}, "timeout", 504),
    ({"fault": "hang", "at": 0, "words": 9}, "timeout", 504),
    ({"fault": "hang", "at": -1, "words": 9}, "timeout", 504),
]


async def test_a_broken_upstream_is_a_typed_failure_and_never_a_success(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    deadlines = {"first_token": 1, "between_chunks": 1}
    entry = {"type": "main", "engine": "openai", "model": "testing", "parameters": {"max_retries": 0}}
    configs = {"main": {"models": [entry], "railstream": {"deadlines": deadlines}}}
    stack = await start(start_stack, configs=configs)
    queued = [(await queue(script), script, code, status) for script, code, status in BROKEN]
    for job, script, code, status in queued:
        log = await ended(redis, job)
        name, data = log[-1][1:]
        assert (name, data["error"]["code"], data["status"]) == (events.FAILED, code, status), script
        assert sum(name == events.CHUNK for _, name, _ in log) == max(0, script.get("at", 0)), script
        assert sum(name == events.USAGE for _, name, _ in log) == 1, script
    await stack.upstream.ledger.wait(open=0)
    await nothing_pends(redis)


async def test_an_end_without_done_but_with_a_finish_reason_is_a_success(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    await start(start_stack)
    assert (await ended(redis, await queue({"fault": "no_done", "words": 4})))[-1][1] == events.FINISHED


async def test_an_answer_that_is_whole_does_not_wait_for_an_end_that_never_comes(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    await start(start_stack)
    began = time.monotonic()
    log = await ended(redis, await queue({"fault": "open_end", "words": 4, "seed": 3}))
    assert log[-1][1] == events.FINISHED
    assert log[-1][2]["usage"]["completion_tokens"] == 4
    assert text_of(log) == says(words=4, seed=3)
    assert time.monotonic() - began < 8


async def test_a_cancel_stops_the_upstream_and_ends_the_stream(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    job = await queue({"words": 500, "rate": 50})
    await released(redis, job, 3)
    await redis.hset(keys.request(job.id), "cancel", "request")
    await redis.publish(keys.CANCEL_CHANNEL, job.id)
    asked = time.monotonic()
    await stack.upstream.ledger.wait(open=0, timeout=5)
    assert time.monotonic() - asked < 1
    log = await ended(redis, job)
    assert log[-1][1:] == (events.CANCELLED, {"reason": "request"})
    (usage,) = [data for _, name, data in log if name == events.USAGE]
    assert (usage["outcome"], usage["complete"]) == ("cancelled", False)
    assert "input_tokens" not in usage, "the provider has not said, and an estimate never stands in its place"
    assert usage["estimated_input_tokens"] > 0
    assert usage["estimated_output_tokens"] >= usage["chunks"] >= 3


async def test_a_cancel_that_only_left_its_flag_is_found(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    await start(start_stack)
    job = await queue({"words": 500, "rate": 50})
    await released(redis, job, 1)
    await redis.hset(keys.request(job.id), "cancel", "disconnect")
    assert (await ended(redis, job))[-1][1:] == (events.CANCELLED, {"reason": "disconnect"})


async def test_a_job_that_was_cancelled_before_it_ran_calls_nobody(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack, workers=0)
    job = await queue({"words": 5})
    await redis.hset(keys.request(job.id), "cancel", "request")
    await stack.add_worker(**QUICK).ready()
    assert (await ended(redis, job))[-1][1] == events.CANCELLED
    assert len(stack.upstream.ledger) == 0


@pytest.mark.parametrize(("configs", "continues", "deltas"), [(AGAIN, False, 300), (ON, True, 170)])
async def test_another_worker_goes_on_after_a_kill(
    start_stack: StartStack, redis: Redis, queue: Queue, configs: dict[str, Any], continues: bool, deltas: int
) -> None:
    """``deltas``: what both calls may have cost at most; a few die with the worker, between its provider and Redis."""
    stack = await start(start_stack, configs=configs)
    job = await queue({"words": 150, "rate": 60, "seed": 5, "continues": continues})
    await released(redis, job, 10)
    stack.add_worker(**QUICK)
    await stack.workers[0].kill()
    log = await ended(redis, job)
    assert text_of(log) == says(words=150, seed=5)
    assert {data["reason"] for _, name, data in log if name == events.RESTARTED} == {"lease_expired"}
    assert sum(call.tokens for call in stack.upstream.ledger) <= deltas
    lost, last = log[-1][2]["usage"]["attempts"]
    assert (lost["outcome"], lost["estimated"], "estimated" in last) == ("lost", True, False)
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert log[-1][2]["usage"][name] == lost[name] + last[name]
    assert last["completion_tokens"] == stack.upstream.ledger[-1].tokens
    assert lost["completion_tokens"] >= 10


async def test_an_answer_that_is_generated_again_as_another_text_fails_and_joins_nothing(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    stack.upstream.script = Script(words=150, rate=30, seed=5)
    job = await queue(messages=[{"role": "user", "content": "Tell me."}])
    await released(redis, job, 10)
    stack.upstream.script = Script(words=150, seed=6)
    stack.add_worker(**QUICK)
    await stack.workers[0].kill()
    log = await ended(redis, job)
    assert (log[-1][1], log[-1][2]["error"]["code"]) == (events.FAILED, "worker_lost")
    assert log[-1][2]["retryable"]
    assert log[-1][2]["error"]["partial"] == text_of(log)
    assert says(words=150, seed=5).startswith(text_of(log))
    await stack.upstream.ledger.wait(open=0)


async def test_an_answer_that_is_generated_again_shorter_than_what_was_sent_fails(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    stack.upstream.script = Script(words=150, rate=30, seed=5)
    job = await queue(messages=[{"role": "user", "content": "Tell me."}])
    await released(redis, job, 10)
    stack.upstream.script = Script(words=4, seed=5)
    stack.add_worker(**QUICK)
    await stack.workers[0].kill()
    assert (await ended(redis, job))[-1][2]["error"]["code"] == "worker_lost"


async def test_an_engine_that_does_not_continue_an_answer_fails_by_default(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack, configs={"main": {}})
    job = await queue({"words": 60, "rate": 30})
    await released(redis, job, 5)
    await stack.workers[0].kill()
    stack.add_worker(**QUICK)
    log = await ended(redis, job)
    assert (log[-1][1], log[-1][2]["error"]["code"]) == (events.FAILED, "worker_lost")
    assert log[-1][2]["error"]["partial"] == text_of(log)
    assert len(stack.upstream.ledger) == 1


async def test_a_config_may_say_that_a_lost_answer_fails(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    stack = await start(start_stack, configs={"main": {"railstream": {"on_worker_loss": "fail"}}})
    job = await queue({"words": 60, "rate": 30})
    await released(redis, job, 5)
    await stack.workers[0].kill()
    stack.add_worker(**QUICK)
    log = await ended(redis, job)
    assert (log[-1][1], log[-1][2]["error"]["code"]) == (events.FAILED, "worker_lost")


async def test_a_worker_that_drains_hands_back_what_it_cannot_finish(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack, workers=0)
    await stack.add_worker(**QUICK, RAILSTREAM_DRAIN_TIMEOUT="0.2").ready()
    job = await queue({"words": 400, "rate": 40, "seed": 5})
    await released(redis, job, 5)
    await stack.add_worker(**QUICK).ready()
    assert await stack.workers[0].terminate() == 0
    log = await ended(redis, job, timeout=30)
    assert text_of(log) == says(words=400, seed=5)
    assert next(data["reason"] for _, name, data in log if name == events.RESTARTED) == "handed_over"


async def test_a_worker_that_drains_finishes_what_it_can(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    stack = await start(start_stack)
    job = await queue({"words": 20, "rate": 30})
    await released(redis, job, 2)
    assert await stack.workers[0].terminate() == 0
    log = await log_of(redis, job)
    assert (log[-1][1], {entry.split("-")[0] for entry, _, _ in log}) == (events.FINISHED, {"1"})
    assert await redis.xinfo_consumers(keys.jobs(), keys.GROUP) == []


async def test_a_worker_that_was_frozen_past_its_lease_writes_nothing_more(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    job = await queue({"words": 150, "rate": 30, "seed": 5})
    await released(redis, job, 5)
    stack.workers[0].freeze()
    stack.add_worker(**QUICK)
    log = await ended(redis, job)
    stack.workers[0].thaw()
    woken = ("taken over by another worker", "could not be renewed in time")
    await until(lambda: any(said in stack.workers[0].output() for said in woken))
    assert await log_of(redis, job) == log
    assert text_of(log) == says(words=150, seed=5)
    attempts = [int(entry.split("-")[0]) for entry, _, _ in log]
    assert attempts == sorted(attempts)
    assert await stack.workers[0].terminate() == 0


async def test_a_job_that_no_worker_survives_is_dead_and_can_be_retried(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack, workers=0)
    job = await queue({"words": 500, "rate": 20, "seed": 9})
    for _ in range(3):
        worker = stack.add_worker(**QUICK)
        count = sum(name == events.CHUNK for _, name, _ in await log_of(redis, job))
        await released(redis, job, count + 1)
        await worker.kill()
    stack.add_worker(**QUICK)
    log = await ended(redis, job)
    assert log[-1][2]["error"]["code"] == "deliveries_exhausted"
    (letter,) = await dead_letters(redis)
    assert (letter.request_id, letter.deliveries) == (job.id, 3)
    assert await retry(redis, letter) == "reopened"
    await released(redis, job, 3)
    assert await dead_letters(redis) == []


async def test_an_entry_that_is_no_job_is_dead_at_once(start_stack: StartStack, redis: Redis) -> None:
    await start(start_stack)
    await redis.xadd(keys.jobs(), {"__data__": b"not a job"})

    async def asked() -> list[Any]:
        return await dead_letters(redis)

    (letter,) = await until(asked)
    assert "not a job" in letter.reason
    await nothing_pends(redis)


async def test_a_redis_that_was_emptied_is_served_again(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    await start(start_stack)
    assert (await ended(redis, await queue({"words": 3})))[-1][1] == events.FINISHED
    await redis.flushall()
    assert (await ended(redis, await queue({"words": 3})))[-1][1] == events.FINISHED


async def test_a_worker_takes_only_what_it_can_run(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    stack = await start(start_stack, workers=0)
    await stack.add_worker(concurrency=2, **QUICK).ready()
    held = [await queue({"words": 5, "hold": 1}) for _ in range(5)]
    await released(redis, held[1], 1)
    assert (await redis.xpending(keys.jobs(), keys.GROUP))["pending"] == 2
    for job in held:
        await released(redis, job, 1)
        stack.upstream.release()
        await ended(redis, job)
    await nothing_pends(redis)


async def test_a_branch_remembers_what_was_said(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    stack = await start(start_stack)
    sessions, before = RedisSessions(redis), ""
    session = (await sessions.create("")).id
    for text in ("one", "two"):
        request, said = new_request_id(), [{"role": "user", "content": text}]
        assert await sessions.begin_turn(session, "", MAIN, request, said, over=before) == ""
        job = await queue(id=request, messages=said, params={"seed": len(text)}, session=session, branch=MAIN)
        await ended(redis, job)
        await nothing_pends(redis)
        before = request
    messages = stack.upstream.ledger[-1].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert (messages[0]["content"], messages[2]["content"]) == ("one", "two")
    kept = await sessions.messages(session, "", MAIN)
    assert [entry.message["role"] for entry in kept] == ["user", "assistant"] * 2


async def test_a_worker_that_waits_for_its_redis_can_be_stopped(tmp_path: Path) -> None:
    worker = Worker("worker", redis_url=f"redis://127.0.0.1:{free_port()}/0", config=None, directory=tmp_path).start()
    await until(lambda: "waiting for redis" in worker.log.read_text(), timeout=30, what="it waits")
    assert await worker.terminate(10) == 0
