"""G16: everything at once for a short while, from one seed; and the judge itself, who must notice what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chaos import stories
from chaos.conftest import SEED, StartWorld
from chaos.conservation import check
from chaos.marathon import Plan, run
from chaos.report import figures, table
from harness.sse import Frame
from railstream import keys

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="session")]


async def test_g16_everything_at_once_loses_nothing_doubles_nothing_and_hides_nothing(tmp_path: Path) -> None:
    plan = Plan(
        seed=SEED,
        streams=16,
        gateways=2,
        workers=3,
        minutes=0.2,
        worker_kills=4,
        gateway_kills=2,
        zombies=1,
        redis_kills=1,
        failovers=1,
        cancels=4,
        network_faults=4,
        write_refusals=2,
        job_stream_losses=1,
        later_jobs=1,
    )
    ran = await run(plan, tmp_path / "world", print)
    found = figures(ran, 0)
    print(table(found))
    assert not found["wrong"]
    assert found["injected"]["worker kills"] == 4
    assert found["requests"] >= 16


@pytest.mark.parametrize("breach", ["lost", "doubled", "hidden", "money"])
async def test_g16_the_judge_notices(start_world: StartWorld, breach: str) -> None:
    world = await start_world(workers=1, gateways=1)
    client = stories.ask(world, 1, words=10, rate=100)[0]
    await client.run()
    await world.quiet()
    assert not (await check(world, [client])).wrong
    with world.redis.client() as redis:
        key = keys.events(client.request_id)
        log: Any = redis.xrange(key)
        if breach == "lost":
            del client.frames[3]
        elif breach == "doubled":
            client.frames.insert(3, client.frames[3])
        elif breach == "hidden":
            redis.xdel(key, log[-1][0])
        else:
            redis.xdel(key, next(entry for entry, fields in log if fields[b"event"] == b"usage"))
    verdict = await check(world, [client], replays=0)
    assert verdict.counts[breach]
    assert isinstance(client.frames[0], Frame)
