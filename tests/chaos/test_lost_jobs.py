"""G20: a lost job stream, no worker, a dead job that is retried, connections that died together: every request ends."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from chaos import stories
from chaos.conftest import StartWorld
from chaos.faults import streaming
from chaos.world import World
from harness.sse import Stream, fetch, opened
from harness.waiting import until
from railstream import keys
from railstream.dead_letters import dead_letters, retry
from railstream.testing import directive
from railstream.topology.connect import connect

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="session")]


def asking(world: World, **script: Any) -> Any:
    body = {"messages": [{"role": "user", "content": directive(**script)}], "stream": True}
    return opened(f"{world.gateways[0].url}/v1/chat/completions", body=body)


def code_of(stream: Stream) -> str | None:
    found = [frame.json["error"]["code"] for frame in stream.frames if not frame.done and "error" in frame.json]
    return found[-1] if found else None


@pytest.mark.parametrize("loss", ["DEL", "XTRIM", "XGROUP DESTROY"])
async def test_g20_requests_end_when_the_job_stream_alone_is_lost(start_world: StartWorld, loss: str) -> None:
    world = await start_world(workers=0, gateways=1, settings={"RAILSTREAM_QUEUE_TIMEOUT": "10"})
    await (await world.add_worker(concurrency=2)).ready()
    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(asking(world, words=150 if n < 2 else 30, rate=15)) for n in range(5)
        ]
        await asyncio.gather(*(stream.read(frames=3) for stream in streams[:2]))
        with world.redis.client() as redis:
            match loss:
                case "DEL":
                    redis.delete(keys.jobs())
                case "XTRIM":
                    redis.xtrim(keys.jobs(), maxlen=0, approximate=False)
                case _:
                    redis.xgroup_destroy(keys.jobs(), keys.GROUP)
        async with asyncio.timeout(60):
            await asyncio.gather(*(stream.read() for stream in streams))
    assert all(stream.done for stream in streams)
    if loss != "XGROUP DESTROY":
        assert [code_of(stream) for stream in streams[2:]] == ["job_lost"] * 3
    else:
        assert [code_of(stream) for stream in streams[2:]] == [None] * 3
    async with asking(world, words=3) as after:
        await after.read()
    assert code_of(after) is None


async def test_g20_without_any_worker_a_request_ends_with_queue_timeout(start_world: StartWorld) -> None:
    world = await start_world(workers=1, gateways=1, settings={"RAILSTREAM_QUEUE_TIMEOUT": "2"})
    await world.workers[0].kill()
    async with asking(world, words=3) as stream, asyncio.timeout(30):
        await stream.read()
    assert code_of(stream) == "queue_timeout"
    world.workers[0].start()
    await until(lambda: answers(world), what="it is served again")


async def answers(world: World) -> bool:
    async with asking(world, words=3) as stream:
        await stream.read()
    return code_of(stream) is None


async def test_g20_a_dead_job_that_is_retried_is_what_its_readers_see(start_world: StartWorld) -> None:
    world = await start_world(workers=1, gateways=2, settings={"RAILSTREAM_MAX_DELIVERIES": "1"})
    client = connect(world.redis.url, 3, name="test")
    async with asking(world, words=40, rate=20) as stream:
        await stream.read(frames=5)
        await world.workers[0].kill()
        world.workers[0].start()
        await stream.read()
        assert code_of(stream) in ("deliveries_exhausted", "worker_lost")

    async def buried() -> list[Any]:
        return await dead_letters(client)

    (letter,) = await until(buried, what="it is among the dead")
    assert await retry(client, letter) in ("reopened", "expired")
    url = f"{world.gateways[1].url}/v1/chat/completions/{letter.request_id}"

    async def over() -> bool:
        return (await fetch(url))[0] != 202

    await until(over, what="it has ended again")
    async with opened(f"{url}?stream=true") as again:
        await again.read()
    assert again.done
    assert b"event: gap" not in b"".join(frame.raw for frame in again.frames)
    await client.aclose()


async def test_g20_connections_that_died_together_cost_no_request_an_error(start_world: StartWorld) -> None:
    world = await start_world(workers=1, gateways=1)
    clients = stories.ask(world, 20, words=20)
    tasks = stories.start(clients)
    await streaming(clients)
    for process in world.processes:
        world.network(process).reset()
    late = stories.ask(world, 20, words=10)
    tasks += stories.start(late)
    verdict = await stories.judged(world, clients + late, tasks)
    assert verdict.counts["finished"] == 40


@pytest.mark.parametrize("silently", [False, True], ids=["reset", "silence"])
async def test_g20_a_delivery_that_is_lost_on_its_way_is_repeated_and_not_counted(
    start_world: StartWorld, silently: bool
) -> None:
    world = await start_world(workers=1, gateways=1, settings={"RAILSTREAM_MAX_DELIVERIES": "1"})
    line = world.network(world.workers[0])
    line.lose_replies(b"__data__", 3, silently=silently)  # of one XREADGROUP, then of XCLAIMs
    clients = stories.ask(world, 1, words=5)
    verdict = await stories.judged(world, clients, stories.start(clients))
    assert line.replies_to_lose == 0
    assert verdict.counts["finished"] == 1, "not one of the lost deliveries was taken for a dead worker"
