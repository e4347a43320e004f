"""Answers whose provider keeps the run: whoever takes over reads the same run, and it costs no token twice."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from contract.test_worker import QUICK, Entry, Queue, ended, nothing_pends, queue, released, says, text_of
from harness.stack import Stack
from harness.waiting import until
from railstream import events, keys
from railstream.job import Job, Operation
from railstream.testing import directive
from railstream.testing.ledger import Ledger
from redis.asyncio import Redis

__all__ = ["queue"]
StartStack = Callable[..., Awaitable[Stack]]


def model(**options: Any) -> dict[str, Any]:
    entry = {"type": "main", "engine": "openai", "model": "testing"}
    return {"models": [entry | {"railstream": {"wire": "responses"} | options}]}


async def start(start_stack: StartStack, *, workers: int = 1, **given: Any) -> Stack:
    stack = await start_stack(gateways=0, workers=0, **{"configs": {"main": model()}} | given)
    for _ in range(workers):
        stack.add_worker(**QUICK)
    await stack.ready()
    return stack


def usages(log: list[Entry]) -> list[dict[str, Any]]:
    return [data for _, name, data in log if name == events.USAGE]


async def kept(redis: Redis, job: Job) -> None:
    async def asked() -> bool:
        return bool(await redis.hget(keys.request(job.id), "run"))

    await until(asked, what="the run is stored")


async def killed_and_taken_over(stack: Stack, redis: Redis, job: Job, held: int, *, runs: int = 1) -> list[Entry]:
    """The log of a job whose worker is killed when its runs wait behind so many deltas, in all, and that goes on."""
    await released(redis, job, held)
    stack.add_worker(**QUICK)
    await stack.workers[0].kill()
    await read_again(stack, times=1, runs=runs)
    return await ended(redis, job)


async def read_again(stack: Stack, *, times: int, runs: int = 1) -> None:
    """Wait until each run has been read again so often, and let it go on."""

    def reached(ledger: Ledger) -> bool:
        return sum(entry.attached >= times for entry in ledger) >= runs

    await stack.upstream.ledger.wait(until=reached, timeout=40)
    stack.upstream.release()


async def test_a_run_is_one_call_with_its_true_usage(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    stack = await start(start_stack)
    log = await ended(redis, await queue({"words": 12, "seed": 3}))
    assert (text_of(log), log[-1][1]) == (says(words=12, seed=3), events.FINISHED)
    (usage,) = usages(log)
    (entry,) = stack.upstream.ledger
    assert (usage["call"], usage["output_tokens"], usage["input_tokens"]) == ("1.1", 12, entry.prompt_tokens)
    assert log[-1][2]["usage"]["completion_tokens"] == 12
    await nothing_pends(redis)


async def test_another_worker_reads_the_run_of_a_killed_one_and_no_token_is_billed_twice(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    job = await queue({"words": 150, "hold": 30, "seed": 5})
    log = await killed_and_taken_over(stack, redis, job, 30)
    assert (text_of(log), log[-1][1]) == (says(words=150, seed=5), events.FINISHED)
    assert {data["reason"] for _, name, data in log if name == events.RESTARTED} == {"lease_expired"}
    (entry,) = stack.upstream.ledger
    assert (entry.outcome, entry.tokens) == ("finished", 150)
    (usage,) = usages(log)
    assert (usage["call"], usage.get("outcome"), usage["output_tokens"]) == ("1.1", None, 150)
    assert "attempts" not in log[-1][2]["usage"]
    assert log[-1][2]["usage"]["completion_tokens"] == 150


async def test_three_workers_in_turn_read_one_run(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    stack = await start(start_stack)
    job = await queue({"words": 60, "hold": 30, "seed": 5})
    await released(redis, job, 30)
    for number in (1, 2):
        stack.add_worker(**QUICK)
        await stack.workers[number - 1].kill()
        await stack.upstream.ledger.wait(until=lambda ledger, n=number: ledger[0].attached >= n, timeout=40)
    stack.upstream.release()
    log = await ended(redis, job)
    assert text_of(log) == says(words=60, seed=5)
    assert [call.tokens for call in stack.upstream.ledger] == [60]
    assert [usage["call"] for usage in usages(log)] == ["1.1"]


async def test_reasoning_and_tool_calls_go_on_too(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    stack = await start(start_stack)
    call = {"name": "look", "arguments": {"for": "a train to " + "somewhere else " * 8}, "id": "call_a"}
    job = await queue({"words": 4, "seed": 5, "reasoning": 4, "hold": 12, "tool_calls": [call]})
    log = await killed_and_taken_over(stack, redis, job, 12)
    assert log[-1][2]["finish_reasons"] == ["tool_calls"]
    chunks = [data for _, name, data in log if name == events.CHUNK]
    fragments = [fragment for chunk in chunks for fragment in chunk.get("tool_calls") or ()]
    assert "".join(fragment["function"].get("name", "") for fragment in fragments) == "look"
    assert json.loads("".join(f["function"]["arguments"] for f in fragments)) == call["arguments"]
    assert len("".join(chunk.get("reasoning_content") or "" for chunk in chunks).split()) == 4
    assert text_of(log) == says(words=4, seed=5)
    assert len(stack.upstream.ledger) == 1


async def test_a_run_of_which_nothing_was_released_yet_is_read_again(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    job = await queue({"words": 20, "seed": 5, "hold": 0})
    await kept(redis, job)
    stack.add_worker(**QUICK)
    await stack.workers[0].kill()
    await read_again(stack, times=1)
    log = await ended(redis, job)
    assert text_of(log) == says(words=20, seed=5)
    assert [call.tokens for call in stack.upstream.ledger] == [20]


async def test_the_rails_read_a_run_from_its_start_and_judge_it_as_before(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    """The masked text stands on both sides of the kill."""
    words = sorted(set(says(words=8, seed=5).split()))
    rails = {
        "config": {"terms": {"output": {"terms": words}}},
        "output": {"flows": ["mask terms on output"], "streaming": {"enabled": True}},
    }
    stack = await start(start_stack, configs={"main": model() | {"rails": rails}})
    job = await queue({"words": 200, "hold": 40, "seed": 5})
    log = await killed_and_taken_over(stack, redis, job, 20)
    plain = await queue({"words": 200, "seed": 5})
    assert text_of(log) == text_of(await ended(redis, plain))
    assert "***" in text_of(log)[:100]
    assert "***" in text_of(log)[-400:]
    assert len(stack.upstream.ledger) == 2


async def test_a_cancel_cancels_the_run(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    stack = await start(start_stack)
    job = await queue({"words": 500, "rate": 50})
    await released(redis, job, 3)
    await redis.hset(keys.request(job.id), "cancel", "request")
    await redis.publish(keys.CANCEL_CHANNEL, job.id)
    (entry,) = await stack.upstream.ledger.wait(open=0, timeout=5)
    assert entry.outcome == "cancelled"
    log = await ended(redis, job)
    assert log[-1][1:] == (events.CANCELLED, {"reason": "request"})
    (usage,) = usages(log)
    assert (usage["call"], usage["outcome"], usage["complete"]) == ("1.1", "cancelled", False)
    assert usage["estimated_output_tokens"] >= 3
    await nothing_pends(redis)


async def test_a_request_that_is_cancelled_after_its_workers_death_cancels_the_run(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    job = await queue({"words": 500, "rate": 20})
    await released(redis, job, 3)
    await stack.workers[0].kill()
    await redis.hset(keys.request(job.id), "cancel", "request")
    stack.add_worker(**QUICK)
    log = await ended(redis, job)
    assert log[-1][1] == events.CANCELLED
    (entry,) = await stack.upstream.ledger.wait(open=0, timeout=5)
    assert (entry.outcome, entry.attached) == ("cancelled", 0)
    assert [(usage["call"], usage["outcome"]) for usage in usages(log)] == [("1.1", "lost")]


async def test_a_block_cancels_the_run(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    word = says(words=40, seed=5).split()[30]
    rails = {
        "config": {"regex_detection": {"output": {"patterns": [word]}}},
        "output": {"flows": ["regex check output"], "streaming": {"enabled": True}},
    }
    stack = await start(start_stack, configs={"main": model() | {"rails": rails}})
    job = await queue({"words": 500, "rate": 100, "seed": 5})
    log = await ended(redis, job)
    assert log[-1][1] == events.BLOCKED
    (entry,) = await stack.upstream.ledger.wait(open=0, timeout=5)
    assert entry.outcome == "cancelled"


async def test_a_drain_hands_the_run_over_and_does_not_cancel_it(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack, workers=0)
    await stack.add_worker(**QUICK, RAILSTREAM_DRAIN_TIMEOUT="0.2").ready()
    job = await queue({"words": 400, "hold": 30, "seed": 5})
    await released(redis, job, 30)
    await stack.add_worker(**QUICK).ready()
    assert await stack.workers[0].terminate() == 0
    await read_again(stack, times=1)
    log = await ended(redis, job)
    assert text_of(log) == says(words=400, seed=5)
    assert next(data["reason"] for _, name, data in log if name == events.RESTARTED) == "handed_over"
    assert [(call.outcome, call.tokens) for call in stack.upstream.ledger] == [("finished", 400)]
    assert [(usage["call"], usage["output_tokens"]) for usage in usages(log)] == [("1.1", 400)]


@pytest.mark.parametrize("how", ["fail", "regenerate"])
async def test_a_run_that_cannot_be_read_again_is_lost_as_the_config_says(
    start_stack: StartStack, redis: Redis, queue: Queue, how: str
) -> None:
    given = {} if how == "fail" else {"on_worker_loss": how}
    stack = await start(start_stack, configs={"main": model(**given)})
    job = await queue({"words": 60, "hold": 30, "times": 1, "seed": 5, "attach_for": 0})
    await released(redis, job, 30)
    stack.add_worker(**QUICK)
    await stack.workers[0].kill()
    log = await ended(redis, job, timeout=40)
    lost = usages(log)[0]
    assert (lost["call"], lost["outcome"], lost["chunks"] >= 10) == ("1.1", "lost", True)
    first, *others = await stack.upstream.ledger.wait(open=0)
    assert first.outcome == "cancelled", "nobody reads what it would say"
    if how == "fail":
        assert (log[-1][1], log[-1][2]["error"]["code"]) == (events.FAILED, "worker_lost")
        assert log[-1][2]["error"]["partial"] == text_of(log)
        assert (len(usages(log)), others) == (1, [])
    else:
        assert (log[-1][1], text_of(log)) == (events.FINISHED, says(words=60, seed=5))
        assert [usage["call"] for usage in usages(log)] == ["1.1", "2.1"]
        assert [part.get("outcome") for part in log[-1][2]["usage"]["attempts"]] == ["lost", None]


async def test_a_broken_connection_to_the_provider_goes_on_within_one_attempt(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    log = await ended(redis, await queue({"words": 60, "rate": 200, "seed": 5, "fault": "reset", "at": 20}))
    assert (text_of(log), log[-1][1]) == (says(words=60, seed=5), events.FINISHED)
    assert [(call.tokens, call.attached) for call in stack.upstream.ledger] == [(60, 1)]
    assert [(usage["call"], usage["output_tokens"]) for usage in usages(log)] == [("1.1", 60)]
    assert {entry.partition("-")[0] for entry, _, _ in log} == {"1"}


async def test_a_run_that_failed_at_the_provider_is_a_typed_failure_with_its_usage(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    log = await ended(redis, await queue({"words": 60, "seed": 5, "fault": "error_during", "at": 20}))
    assert (log[-1][1], log[-1][2]["error"]["code"]) == (events.FAILED, "provider")
    (usage,) = usages(log)
    assert (usage["outcome"], usage["output_tokens"]) == ("failed", stack.upstream.ledger[0].tokens)


def of_operation(log: list[Entry], choices: list[dict[str, Any]], index: int) -> str:
    chunks = [data for _, name, data in log if name == events.CHUNK]
    return "".join(
        d.get("content") or "" for d, choice in zip(chunks, choices, strict=True) if choice["index"] == index
    )


async def choices_of(redis: Redis, job: Job) -> list[dict[str, Any]]:
    found: list[Any] = await redis.xrange(keys.events(job.id))
    return [json.loads(fields[b"choice"]) for _, fields in found if fields[b"event"] == events.CHUNK]


async def flow(queue: Queue, **script: Any) -> Job:
    """Of two operations, each of which waits behind 20 deltas."""
    asked = [{"words": 60, "hold": 20, "seed": seed} | script for seed in ("a", "b")]
    operations = tuple(
        Operation(id=f"op-{number}", model="testing", configs=("main",), instruction=directive(**given))
        for number, given in enumerate(asked)
    )
    return await queue(kind="flow", operations=operations, messages=[], concurrency=2)


async def test_each_operation_of_a_flow_reads_its_own_run_again(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    job = await flow(queue)
    log = await killed_and_taken_over(stack, redis, job, 40, runs=2)
    choices = await choices_of(redis, job)
    assert log[-1][2]["finish_reasons"] == ["stop", "stop"]
    assert [of_operation(log, choices, index) for index in (0, 1)] == [says(words=60, seed=seed) for seed in ("a", "b")]
    assert [(call.outcome, call.tokens) for call in stack.upstream.ledger] == [("finished", 60)] * 2
    assert sorted((usage["call"], usage["output_tokens"]) for usage in usages(log)) == [("1.0.1", 60), ("1.1.1", 60)]


async def test_a_cancelled_flow_cancels_the_runs_of_its_operations(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    job = await flow(queue)
    await released(redis, job, 40)
    await redis.hset(keys.request(job.id), "cancel", "request")
    await redis.publish(keys.CANCEL_CHANNEL, job.id)
    entries = await stack.upstream.ledger.wait(open=0, timeout=5)
    assert [entry.outcome for entry in entries] == ["cancelled"] * 2
    assert (await ended(redis, job))[-1][1] == events.CANCELLED
