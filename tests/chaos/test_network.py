"""G7: each named fault between a process and Redis, or a worker and its upstream, is noticed in bounded time."""

from __future__ import annotations

import asyncio
import time

import pytest
from chaos import stories
from chaos.conftest import StartWorld
from chaos.faults import NETWORK, Faults, break_line, streaming
from chaos.world import LEASE
from harness import proxy
from harness.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="session")]

LONG = {"timeout", "half-open up", "half-open down"}
"""These last longer than the lease: somebody has to notice."""


@pytest.mark.parametrize("side", ["worker", "gateway"])
async def test_g7_every_fault_between_a_process_and_redis_costs_no_word(start_world: StartWorld, side: str) -> None:
    world = await start_world()
    clients = stories.ask(world, 10, words=220, rate=16)
    tasks = stories.start(clients)
    await streaming(clients)
    names = [*NETWORK, "reset", "refuse"]
    world.random.shuffle(names)
    for number, name in enumerate(names):
        processes = world.workers if side == "worker" else world.gateways
        await break_line(world.network(processes[number % 2]), name, LEASE + 0.5 if name in LONG else 0.7)
    verdict = await stories.judged(world, clients, tasks)
    assert verdict.counts["finished"] == 10


async def test_g7_a_worker_that_cannot_renew_its_lease_stops_generating(start_world: StartWorld) -> None:
    world = await start_world(workers=1, gateways=1)
    clients = stories.ask(world, 3, words=200)
    tasks = stories.start(clients)
    await streaming(clients)
    line = world.network(world.workers[0])
    line.inject(proxy.half_open("down"))
    cut = time.monotonic()

    async def stopped() -> bool:
        return all(call["outcome"] == "closed_by_client" for call in await world.ledger())

    await until(stopped, timeout=10, what="its calls are closed")
    assert time.monotonic() - cut <= LEASE + 0.5, "before anybody else may take the job over"
    await line.heal()
    verdict = await stories.judged(world, clients, tasks)
    assert verdict.counts["finished"] == 3
    assert verdict.counts["takeovers"] >= 3


@pytest.mark.parametrize("name", ["latency", "bandwidth", "slicer"])
async def test_g7_a_bad_line_to_the_upstream_changes_no_word(start_world: StartWorld, name: str) -> None:
    world = await start_world(workers=1, gateways=1)
    world.upstream_network.inject(NETWORK[name])
    clients = stories.ask(world, 4, words=40)
    verdict = await stories.judged(world, clients, stories.start(clients))
    assert verdict.counts["finished"] == 4


async def test_g7_an_upstream_that_is_cut_off_is_a_typed_error_and_never_a_short_answer(
    start_world: StartWorld,
) -> None:
    world = await start_world(workers=1, gateways=1)
    clients = stories.ask(world, 6, words=100)
    for client in clients:
        client.may_fail = True
    tasks = stories.start(clients)
    await streaming(clients, chunks=10)
    world.upstream_network.reset()
    await stories.judged(world, clients, tasks)
    assert all(client.error and client.error["code"] == "connection" for client in clients)


async def test_g7_a_worker_that_hears_nothing_takes_no_new_job_with_it(start_world: StartWorld) -> None:
    """Jobs that are asked for while one worker is cut off are run by the other, after the lease at the latest."""
    world = await start_world()
    line = world.network(world.workers[0])
    line.inject(proxy.half_open("down"))
    clients = stories.ask(world, 6, words=20)
    began = time.monotonic()
    tasks = stories.start(clients)
    await asyncio.gather(*tasks)
    assert time.monotonic() - began < 4 * LEASE
    await line.heal()
    verdict = await stories.judged(world, clients, tasks)
    assert verdict.counts["finished"] == 6
    assert not Faults(world, clients).running
