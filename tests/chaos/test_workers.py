"""G2, G3, G10: workers that are killed, that sleep past their lease, and jobs that kill whoever runs them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from chaos import stories
from chaos.conftest import StartWorld
from chaos.conservation import read_log
from chaos.faults import Faults, break_line, streaming
from chaos.world import KEEPING, LEASE, SCAN, World
from harness.sse import opened
from railstream import keys

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="session")]

MACHINE = 1.0
"""Seconds that a busy machine may add to what lease and scan allow."""
SUICIDE = """
import os
from railstream import action

@action(is_system_action=True)
async def kill_worker(context: dict):
    os._exit(1)
"""


async def test_g2_the_streams_of_killed_workers_go_on_elsewhere_without_a_lost_or_doubled_word(
    start_world: StartWorld,
) -> None:
    world = await start_world()
    clients = stories.ask(world, 12, words=160)
    tasks = stories.start(clients)
    faults = Faults(world, clients)
    await streaming(clients)
    for _ in range(3):
        await faults.kill_worker(name=faults.busiest_worker())
        await asyncio.sleep(world.random.uniform(0, 0.5))  # kills come when they come
    verdict = await stories.judged(world, clients, tasks)
    await faults.takeovers.settled()
    assert verdict.counts["finished"] == 12
    assert len(faults.takeovers.all) >= 3
    assert verdict.counts["takeovers"] >= len(faults.takeovers.all)
    assert verdict.counts["calls recorded as lost"] >= 1
    assert max(faults.takeovers.alone, default=0) <= LEASE + SCAN + MACHINE


async def test_g2_a_config_that_says_fail_ends_with_a_typed_error_and_what_was_sent_stands(
    start_world: StartWorld,
) -> None:
    world = await start_world(configs={"main": {"railstream": {"on_worker_loss": "fail"}}})
    clients = stories.ask(world, 6, words=100)
    for client in clients:
        client.may_fail = True
    tasks = stories.start(clients)
    await streaming(clients)
    await Faults(world, clients).kill_worker()
    verdict = await stories.judged(world, clients, tasks)
    failed = [client for client in clients if client.error is not None]
    assert failed
    assert all(client.error["code"] == "worker_lost" and client.text for client in failed)
    assert verdict.counts["failed"] == len(failed)


async def test_g18_workers_die_while_the_provider_keeps_the_runs_and_no_token_is_billed_twice(
    start_world: StartWorld,
) -> None:
    world = await start_world()
    clients = stories.ask(world, 12, words=160, config=KEEPING)
    tasks = stories.start(clients)
    faults = Faults(world, clients)
    await streaming(clients)
    for _ in range(3):
        await faults.kill_worker(name=faults.busiest_worker())
        await asyncio.sleep(world.random.uniform(0, 0.5))  # kills come when they come
    verdict = await stories.judged(world, clients, tasks)
    await faults.takeovers.settled()
    assert (verdict.counts["finished"], verdict.counts["calls recorded as lost"]) == (12, 0)
    assert verdict.counts["takeovers"] >= len(faults.takeovers.all) >= 3
    calls = await world.ledger()
    unheard = verdict.counts["calls that died before their first word"]
    assert len(calls) == 12 + unheard, "one run each"
    assert [call["tokens"] for call in calls if call["outcome"] == "finished"] == [160] * 12
    assert sum(call["attached"] for call in calls) >= verdict.counts["takeovers"]


async def test_g18_a_provider_whose_connections_break_is_read_to_the_end_of_each_run(start_world: StartWorld) -> None:
    world = await start_world()
    clients = stories.ask(world, 8, words=120, config=KEEPING)
    tasks = stories.start(clients)
    await streaming(clients)
    for name in ("reset", "half-open down", "refuse"):
        await break_line(world.upstream_network, name, 0.5)
        await asyncio.sleep(0.3)
    verdict = await stories.judged(world, clients, tasks)
    assert (verdict.counts["finished"], verdict.counts["takeovers"]) == (8, 0)
    calls = await world.ledger()
    assert [(call["outcome"], call["tokens"]) for call in calls] == [("finished", 120)] * 8
    assert sum(call["attached"] for call in calls) >= 8


async def test_g3_a_worker_that_slept_past_its_lease_writes_nothing_more(start_world: StartWorld) -> None:
    world = await start_world()
    clients = stories.ask(world, 8, words=90)
    tasks = stories.start(clients)
    faults = Faults(world, clients)
    await streaming(clients)
    sleeper, before = world.workers[0], refusals(world)
    slept = faults.takeovers.running_on(sleeper, [client.request_id for client in clients])
    assert slept
    sleeper.freeze()
    await asyncio.sleep(LEASE + 2 * SCAN + MACHINE)  # what is waited for is that time passes while it sleeps
    ends = {request: read_log(world, request)[-1][0] for request in slept}
    sleeper.thaw()
    await sleeper.ready()
    await stories.judged(world, clients, tasks)
    assert all(end.attempt == slept[request] + 1 for request, end in ends.items()), "all were taken over as it slept"
    for request in slept:
        names = {id.attempt: set[str]() for id, _, _ in read_log(world, request)}
        for id, name, data in read_log(world, request):
            if name == b"usage" and json.loads(data).get("outcome") != "lost":
                names[id.attempt].add(json.loads(data)["call"].split(".")[0])
        assert all(calls <= {str(attempt)} for attempt, calls in names.items()), "usage of another attempt"
    assert refusals(world) > before, "what it sent after it woke was refused"
    assert "taken over" in sleeper.output() or "not be renewed" in sleeper.output()


def refusals(world: World) -> int:
    """Commands that Redis answered with an error."""
    with world.redis.client() as redis:
        return int(redis.info("errorstats").get("errorstat_ERR", {"count": 0})["count"])


async def test_g10_a_job_that_kills_its_worker_every_time_is_dead_after_its_last_delivery(
    start_world: StartWorld,
) -> None:
    deadly = {"rails": {"input": {"flows": ["kill worker"]}}, "actions.py": SUICIDE}
    world = await start_world(
        workers=1, gateways=1, configs={"main": {}, "deadly": deadly}, settings={"RAILSTREAM_MAX_DELIVERIES": "2"}
    )
    worker, restarts = world.workers[0], 0

    async def keep_running() -> None:
        nonlocal restarts
        while True:
            await worker.wait(60)
            restarts += 1
            worker.start()

    keeper = asyncio.create_task(keep_running())
    body: dict[str, Any] = stories.ask(world, 1, config="deadly")[0].question.body()
    async with opened(f"{world.gateways[0].api}/chat/completions", body=body) as stream:
        await stream.read()
    keeper.cancel()
    assert restarts == 2, f"not delivered as often as the setting says: {stream.frames}"
    assert stream.frames[-2].json["error"]["code"] == "deliveries_exhausted"
    assert stream.done
    with world.redis.client() as redis:
        (_, dead), *more = redis.xrange(keys.DEAD)
    assert not more
    assert dead[b"request"].decode() == stream.request_id
    healthy = stories.ask(world, 2, words=10, config="main")
    await stories.judged(world, healthy, stories.start(healthy))
