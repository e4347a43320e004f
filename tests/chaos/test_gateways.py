"""G1, G4, G8, G15: clients that are cut, gateways that die, readers that are slow, and restarts of everything."""

from __future__ import annotations

import asyncio

import pytest
from chaos import stories
from chaos.conftest import StartWorld
from chaos.faults import Faults, streaming
from chaos.world import World
from harness.proxy import Proxy, bandwidth
from harness.sse import Incomplete, opened
from harness.waiting import until
from railstream import keys

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="session")]


async def test_g1_a_client_that_is_cut_at_any_byte_sees_each_event_once_whichever_gateway_it_comes_back_to(
    start_world: StartWorld,
) -> None:
    world = await start_world(gateways=3, workers=1, settings={"RAILSTREAM_LEASE": "5"})
    clients = stories.ask(world, 20, words=60, rate=60, cuts=6)
    for client in clients[:10]:  # small ones, too: inside the first frame, a header line, an id
        client.cuts = [world.random.randint(1, 400) for _ in range(8)]
    verdict = await stories.judged(world, clients, stories.start(clients), replays=20)
    assert verdict.counts["finished"] == 20
    assert verdict.counts["resumes"] >= 100
    assert verdict.counts["takeovers"] == 0


async def test_g4_clients_of_a_killed_gateway_go_on_at_another_one_and_no_worker_notices(
    start_world: StartWorld,
) -> None:
    world = await start_world(gateways=3, workers=1, settings={"RAILSTREAM_LEASE": "5"})
    clients = stories.ask(world, 10, words=80)
    tasks = stories.start(clients)
    faults = Faults(world, clients)
    await streaming(clients)
    for name in ("gateway-1", "gateway-2"):
        assert await faults.kill_gateway(name=name)
    verdict = await stories.judged(world, clients, tasks)
    assert verdict.counts["finished"] == 10
    assert verdict.counts["resumes"] >= 1
    assert verdict.counts["takeovers"] == 0


async def test_g4_a_gateway_that_dies_is_not_a_client_that_leaves(start_world: StartWorld) -> None:
    world = await start_world(gateways=3, workers=1, settings={"RAILSTREAM_LEASE": "5"})
    clients = stories.ask(world, 8, words=60)
    for client in clients:
        client.policy = "cancel"
    tasks = stories.start(clients)
    await streaming(clients)
    await Faults(world, clients).kill_gateway()
    verdict = await stories.judged(world, clients, tasks)
    assert verdict.counts["cancelled"] == 0


async def test_g8_a_reader_of_1_kb_a_second_is_closed_resumably_and_costs_the_others_nothing(
    start_world: StartWorld,
) -> None:
    limits = {"RAILSTREAM_CLIENT_BUFFER": "65536", "RAILSTREAM_SEND_TIMEOUT": "3"}
    world = await start_world(workers=1, gateways=1)
    gateway = await world.add_gateway(**limits)
    await gateway.ready()
    question = stories.ask(world, 1, words=20_000, rate=4000)[0].question
    before = gateway.memory()
    path, headers = "v1/chat/completions", {"x-railstream-on-disconnect": "continue"}
    async with Proxy(gateway.port, receive_buffer=4096) as line:
        line.inject(bandwidth(1024))
        async with opened(f"http://127.0.0.1:{line.port}/{path}", body=question.body(), headers=headers) as slow:
            others = stories.ask(world, 5, words=60, rate=60)
            tasks = stories.start(others)
            reading = asyncio.create_task(slow.read())
            await until(lambda: readers(world, slow.request_id) == 0, timeout=40, what="it is closed")
            assert gateway.memory() - before < 40_000_000, "what it did not read is not kept for it"
            await line.heal()
            with pytest.raises((Incomplete, ConnectionError)):
                await reading
            await stories.judged(world, others, tasks)
    async with opened(f"{gateway.url}/{path}/{slow.request_id}?stream=true", after=slow.last_event_id) as rest:
        await rest.read()
    assert rest.done
    assert "".join(frame.text for frame in slow.frames + rest.frames) == question.answer


def readers(world: World, request_id: str) -> int:
    with world.redis.client() as redis:
        return int(redis.hget(keys.request(request_id), "readers"))


async def test_g15_a_rolling_restart_of_every_process_under_load_fails_no_request(start_world: StartWorld) -> None:
    world = await start_world()
    clients = stories.ask(world, 16, words=150, rate=20)
    tasks = stories.start(clients)
    await streaming(clients)
    late = stories.ask(world, 6, words=30)
    for process in world.processes:
        exit_code = await process.terminate()
        assert exit_code == 0, f"{process.name} drained with {exit_code}"
        process.start()
        tasks += stories.start(late[:1])  # some ask while everything restarts
        clients.append(late.pop(0))
        await process.ready()
    verdict = await stories.judged(world, clients, tasks)
    assert verdict.counts["finished"] == len(clients)
    assert verdict.counts["failed"] == verdict.counts["cancelled"] == 0
    await until(lambda: all(process.running for process in world.processes))
