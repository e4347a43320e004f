"""G20: a worker that understands only older jobs runs beside the others: it leaves them; none is lost or counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import stories
from chaos.conftest import StartWorld
from chaos.faults import Faults, streaming
from chaos.world import World
from harness.processes import Worker
from railstream import keys

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="session")]

OLDER = "from railstream import job\n\njob.VERSION -= 1\n"
"""What makes a process one of the release before, as far as jobs are concerned."""


async def older_worker(world: World, directory: Path) -> Worker:
    (directory / "sitecustomize.py").write_text(OLDER, encoding="utf-8")
    worker = await world.add_worker(PYTHONPATH=str(directory))
    await worker.ready()
    return worker


async def test_g20_an_older_worker_leaves_the_jobs_of_newer_gateways_to_newer_workers(
    start_world: StartWorld, tmp_path: Path
) -> None:
    world = await start_world(workers=2, gateways=1, settings={"RAILSTREAM_MAX_DELIVERIES": "1"})
    older = await older_worker(world, tmp_path)
    left = 0
    with world.redis.client() as redis:
        for _ in range(4):  # until it has met some: who reads first is chance
            clients = stories.ask(world, 8, words=20)
            verdict = await stories.judged(world, clients, stories.start(clients))
            assert verdict.counts["finished"] == 8
            left = older.output().count("left to a newer worker")
            if left:
                break
        assert redis.xlen(keys.DEAD) == 0, "what is left to others is no delivery"
    print(f"jobs that the older worker left to newer ones: {left}")
    assert left
    assert "taken over" not in older.output()


async def test_g20_the_death_of_a_newer_worker_beside_an_older_one_loses_nothing(
    start_world: StartWorld, tmp_path: Path
) -> None:
    world = await start_world(workers=2, gateways=1)
    older = await older_worker(world, tmp_path)
    clients = stories.ask(world, 8, words=100)
    tasks = stories.start(clients)
    await streaming(clients)
    faults = Faults(world, clients)
    await faults.kill_worker(name=world.workers[0].name)
    verdict = await stories.judged(world, clients, tasks)
    await faults.takeovers.settled()
    print(f"{dict(faults.injected)}, left: {older.output().count('left to a newer worker')}")
    assert verdict.counts["finished"] == 8
