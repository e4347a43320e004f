"""G12, G13: more than can be served is refused at the door; who cancels or leaves stops the call at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter

import pytest
from chaos import stories
from chaos.clients import Client
from chaos.conftest import StartWorld
from chaos.conservation import read_log
from chaos.world import World
from harness.sse import Stream, fetch, opened
from harness.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="session")]


async def asked_once(client: Client) -> Stream:
    """Without a second try."""
    gateway = client.world.live_gateway()
    assert gateway is not None
    headers = {"x-railstream-on-disconnect": "continue"}
    async with opened(f"{gateway.api}/chat/completions", body=client.question.body(), headers=headers) as stream:
        if stream.status == 200:
            client.request_id = stream.request_id
            client.frames = await stream.read()
        else:
            await stream.body()
        return stream


async def test_g12_what_is_accepted_is_finished_and_what_is_not_is_told_when_to_come_back(
    start_world: StartWorld,
) -> None:
    world = await start_world(workers=0, gateways=2, settings={"RAILSTREAM_QUEUE_LIMIT": "10"})
    clients = stories.ask(world, 80, words=15, rate=60)
    tasks = [asyncio.create_task(asked_once(client)) for client in clients]
    worker = await world.add_worker(concurrency=4)  # it comes late, and can do little
    await worker.ready()
    answers = await asyncio.gather(*tasks)
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {200, 429}
    assert statuses[200] >= 10
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status == 429)
    accepted = [client for client, answer in zip(clients, answers, strict=True) if answer.status == 200]
    verdict = await stories.judged(world, accepted, [])
    assert verdict.counts["finished"] == len(accepted)


async def test_g12_a_refused_client_that_comes_back_is_served(start_world: StartWorld) -> None:
    world = await start_world(workers=1, gateways=1, settings={"RAILSTREAM_QUEUE_LIMIT": "5"})
    clients = stories.ask(world, 40, words=10, rate=100)
    verdict = await stories.judged(world, clients, stories.start(clients))
    assert verdict.counts["finished"] == 40


async def calls_stopped(world: World, since: float) -> float:
    """Seconds until the upstream has no open call."""

    async def none_open() -> bool:
        return all(call["outcome"] != "open" for call in await world.ledger())

    await until(none_open, timeout=15, what="every call is closed", interval=0.05)
    ends = [call["ended"] for call in await world.ledger()]
    return max((end for end in ends if end), default=since) - since


async def test_g13_a_storm_of_cancels_stops_every_call_within_a_second_and_counts_each_once(
    start_world: StartWorld,
) -> None:
    world = await start_world(workers=0, gateways=2)
    for _ in range(2):
        await (await world.add_worker(concurrency=15)).ready()
    clients = stories.ask(world, 50, words=400, rate=10)  # thirty run, twenty wait
    tasks = stories.start(clients)

    async def thirty_run() -> bool:
        return len(await world.ledger()) == 30 and all(client.request_id for client in clients)

    await until(thirty_run, timeout=30, what="thirty run")
    began = time.time()
    statuses = await asyncio.gather(*(cancel(world, client) for client in clients))
    assert set(statuses) == {200}
    assert await calls_stopped(world, began) <= 1.0 + SLACK
    verdict = await stories.judged(world, clients, tasks)
    assert verdict.counts["cancelled"] == 50
    assert all(client.error and client.error["code"] == "request_cancelled" for client in clients)
    for client in clients:
        records = [json.loads(data) for _, name, data in read_log(world, client.request_id) if name == b"usage"]
        made = {call["id"].partition(".")[2] for call in await world.ledger(client.request_id)}
        assert made <= {record["call"] for record in records}, "each call that was made has its record"
        assert not any(record.get("complete", True) for record in records)


SLACK = 1.0
"""Seconds that fifty requests at once may take on a busy machine before the last of them is heard."""


async def cancel(world: World, client: Client) -> int:
    gateway = world.random.choice(world.gateways)
    status, _ = await fetch(f"{gateway.api}/chat/completions/{client.request_id}/cancel", body={})
    return status


async def test_g13_a_client_that_leaves_stops_its_call_and_one_that_said_continue_does_not(
    start_world: StartWorld,
) -> None:
    world = await start_world(workers=1, gateways=1)
    leaves, stays = stories.ask(world, 2, words=60, rate=20)
    for client, policy in ((leaves, "cancel"), (stays, "continue")):
        headers = {"x-railstream-on-disconnect": policy}
        async with opened(
            f"{world.gateways[0].api}/chat/completions", body=client.question.body(), headers=headers
        ) as stream:
            await stream.read(frames=3)
            client.request_id = stream.request_id
            stream.reset()
            left = time.time()
        if client is leaves:
            assert await calls_stopped(world, left) <= 1.0
    await world.quiet()
    assert read_log(world, leaves.request_id)[-1][1] == b"cancelled"
    assert read_log(world, stays.request_id)[-1][1] == b"finished"
    verdict = await stories.judged(world, [stays], stories.start([stays]))
    assert verdict.counts["finished"] == 1
