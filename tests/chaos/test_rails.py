"""G14: however a text is chunked, what a rail lets out is a beginning of what it lets out of the whole text."""

from __future__ import annotations

import asyncio
import re

import pytest
from chaos import stories
from chaos.clients import Client
from chaos.conftest import StartWorld
from chaos.faults import Faults, streaming
from chaos.world import World
from harness.sse import opened

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="session")]

FORBIDDEN = r"\bsecret\s+code\b|X-\d{3,5}"
RAILS = {
    "rails": {
        "config": {"regex_detection": {"output": {"patterns": [FORBIDDEN]}}},
        "output": {
            "flows": ["regex check output"],
            "streaming": {"enabled": True, "chunk_size": 20, "context_size": 5, "stream_first": False},
        },
    }
}
PIECES = ("the ", "secret", " ", "  \n", "code", "X-", "12", "345", "X-1", "stream ", "a rail; ", "sec", "ret code")


def texts(world: World, count: int) -> list[str]:
    draw = world.random
    return ["".join(draw.choice(PIECES) for _ in range(draw.randint(3, 60))) for _ in range(count)]


def guarded(text: str) -> str:
    """The oracle: all that stands before the first match in the whole text."""
    found = re.search(FORBIDDEN, text)
    return text if found is None else text[: found.start()]


def asking(world: World, text: str, piece: int, rate: float) -> Client:
    client = stories.ask(world, 1, rate=rate)[0]
    client.question.given = {"text": text, "piece": piece}
    client.question.said = text
    client.may_fail = True
    return client


async def test_g14_what_leaves_is_a_beginning_of_what_the_rail_allows_and_nothing_follows_a_block(
    start_world: StartWorld,
) -> None:
    world = await start_world(configs={"main": RAILS})
    clients = [asking(world, text, world.random.randint(1, 9), 500) for text in texts(world, 60)]
    tasks = stories.start(clients)
    verdict = await stories.judged(world, clients, tasks)
    assert verdict.counts["blocked"] >= 10
    assert verdict.counts["finished"] >= 3
    for client in clients:
        whole = client.question.answer
        if guarded(whole) == whole:
            assert client.text == whole
            assert client.error is None
        else:
            assert guarded(whole).startswith(client.text)
            assert client.error is not None
            assert client.error["code"] == "content_blocked"
        async with opened(f"{world.gateways[0].api}/chat/completions/{client.request_id}?stream=true") as replay:
            await replay.read()
        assert [frame.raw for frame in replay.frames] == [frame.raw for frame in client.frames]


async def test_g14_a_match_that_a_takeover_cuts_in_two_is_still_one(start_world: StartWorld) -> None:
    """The worker dies between the halves of what must not be said; the next one was told what was released before."""
    world = await start_world(configs={"main": RAILS})
    clean = "word " * 40
    clients = [asking(world, f"{clean[: 5 * n]}the secret code is X-1234", 3, 20) for n in range(8, 16)]
    tasks = stories.start(clients)
    await streaming(clients, chunks=2)
    faults = Faults(world, clients)
    for _ in range(2):
        await asyncio.sleep(world.random.uniform(0, 1.5))  # kills come when they come
        await faults.kill_worker()
    verdict = await stories.judged(world, clients, tasks)
    assert verdict.counts["blocked"] == 8
    assert all("secret" not in client.text and "X-" not in client.text for client in clients)
