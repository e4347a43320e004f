"""A call that is cut is read on for its usage, where a config asks for it: within bounds, and for nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from contract.test_worker import QUICK, Queue, StartStack, ended, log_of, queue, released
from harness.stack import Stack
from harness.waiting import until
from railstream import events, keys, usage
from railstream.job import Job
from railstream.testing.ledger import Entry
from railstream.usage import Totals
from redis.asyncio import Redis

__all__ = ["queue"]
WORDS = 60
BLOCKING: dict[str, Any] = {
    "rails": {
        "output": {"flows": ["regex check output"], "streaming": {"enabled": True}},
        "config": {"regex_detection": {"output": {"patterns": ["forbidden"]}}},
    }
}


async def start(start_stack: StartStack, config: dict[str, Any] | None = None, **drain: Any) -> Stack:
    configs = {"main": {**(config or {}), "railstream": {"usage_drain": drain or {"seconds": 10}}}}
    stack = await start_stack(gateways=0, workers=0, configs=configs)
    await stack.add_worker(concurrency=1, **QUICK).ready()
    return stack


async def cancel(redis: Redis, job: Job) -> None:
    await redis.hset(keys.request(job.id), "cancel", "request")
    await redis.publish(keys.CANCEL_CHANNEL, f"{job.id} request")


async def totals(redis: Redis) -> Totals:
    found = await usage.read(redis, [usage.today()])
    return next(iter(found.values()), Totals())


async def counted(redis: Redis) -> Totals:
    """The totals, once no call in them is without its provider's count."""

    async def all_counted() -> Totals | None:
        found = await totals(redis)
        return found if found.calls and not found.uncounted else None

    found: Totals = await until(all_counted, what="the ledger is corrected")
    return found


async def call_of(stack: Stack, outcome: str) -> Entry:
    def over() -> Entry | None:
        return next((entry for entry in stack.upstream.ledger if entry.outcome == outcome), None)

    found: Entry = await until(over, what=f"a call is {outcome}")
    return found


async def test_a_cancelled_call_is_counted_as_its_provider_counts_it(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    job = await queue({"words": WORDS, "rate": 60})
    await released(redis, job, 3)
    await cancel(redis, job)
    log = await ended(redis, job)
    assert log[-1][1] == events.CANCELLED
    (record,) = [data for _, name, data in log if name == events.USAGE]
    assert record["estimated_output_tokens"] < WORDS, "the end did not wait for the drain"
    found = await counted(redis)
    call = await call_of(stack, "finished")
    assert (found.input, found.output, found.calls, found.incomplete) == (call.prompt_tokens, WORDS, 1, 0)
    assert (found.estimated_input, found.estimated_output) == (0, 0)
    assert await log_of(redis, job) == log, "nothing that was drained has left"


async def test_a_blocked_call_is_counted_as_its_provider_counts_it(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    await start(start_stack, BLOCKING)
    deltas = ["This ", "is ", "forbidden ", *["and more "] * 40]
    job = await queue({"deltas": deltas, "rate": 40})
    log = await ended(redis, job)
    assert log[-1][1] == events.BLOCKED
    found = await counted(redis)
    assert (found.output, found.calls, found.estimated_output) == (len(deltas), 1, 0)
    assert await log_of(redis, job) == log


@pytest.mark.parametrize("bounds", [{"seconds": 0.5}, {"tokens": 20}], ids=["seconds", "tokens"])
async def test_a_drain_ends_at_its_bounds_and_the_estimate_holds_what_was_read(
    start_stack: StartStack, redis: Redis, queue: Queue, bounds: dict[str, Any]
) -> None:
    stack = await start(start_stack, **bounds)
    job = await queue({"words": 2000, "rate": 60})
    await released(redis, job, 3)
    await cancel(redis, job)
    log = await ended(redis, job)
    (record,) = [data for _, name, data in log if name == events.USAGE]
    call = await call_of(stack, "closed_by_client")
    assert call.tokens < 300

    async def corrected() -> bool:
        return (await totals(redis)).estimated_output > record["estimated_output_tokens"]

    await until(corrected, what="the estimate has grown")
    assert (await totals(redis)).uncounted == 1


async def test_a_drain_takes_no_slot(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    stack = await start(start_stack)
    job = await queue({"words": 400, "rate": 60})
    await released(redis, job, 3)
    await cancel(redis, job)
    assert (await ended(redis, await queue({"words": 3})))[-1][1] == events.FINISHED
    assert [entry.outcome for entry in stack.upstream.ledger] == ["open", "finished"]


async def test_a_worker_that_stops_ends_its_drains_at_once_and_the_estimate_stands(
    start_stack: StartStack, redis: Redis, queue: Queue
) -> None:
    stack = await start(start_stack)
    job = await queue({"words": 2000, "rate": 60})
    await released(redis, job, 3)
    await cancel(redis, job)
    await ended(redis, job)
    assert await stack.workers[0].terminate(8) == 0
    await call_of(stack, "closed_by_client")
    found = await totals(redis)
    assert (found.calls, found.uncounted) == (1, 1)
    assert found.estimated_output > 0


async def test_a_call_that_has_not_begun_is_closed_at_once(start_stack: StartStack, redis: Redis, queue: Queue) -> None:
    stack = await start(start_stack)
    job = await queue({"words": 30, "fault": "hang", "at": 0})

    async def is_called() -> bool:
        return len(list(stack.upstream.ledger)) == 1

    await until(is_called, what="the provider is called")
    await cancel(redis, job)
    await ended(redis, job)
    await call_of(stack, "closed_by_client")


async def test_a_correction_is_made_once(redis: Redis) -> None:
    named = ("1.1", "general", "m", "p")
    before = events.Usage(*named, estimated_input_tokens=3, estimated_output_tokens=4, complete=False)
    after = events.Usage(*named, input_tokens=5, output_tokens=6)
    for _ in range(2):
        await usage.correct(redis, "chatcmpl-" + "0" * 32, "", before, after, day=usage.today())
    found = await totals(redis)
    assert (found.input, found.output, found.estimated_input, found.uncounted, found.incomplete) == (5, 6, -3, -1, -1)
