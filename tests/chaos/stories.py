"""Clients with deterministic questions: start them, let something happen to them, and judge what they saw."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from chaos.clients import Client, Question
from chaos.conservation import Verdict, check
from chaos.world import World


def ask(
    world: World, count: int, *, words: int = 50, rate: float = 25, cuts: int = 0, config: str = ""
) -> list[Client]:
    """So many clients, not yet started; each cuts its own connection ``cuts`` times."""
    draw = world.random
    return [
        Client(
            world,
            Question(f"{draw.getrandbits(48):x}", words, rate * draw.uniform(0.8, 1.2), config),
            cuts=[draw.randint(0, 6000) for _ in range(cuts)],
        )
        for _ in range(count)
    ]


def start(clients: Sequence[Client]) -> list[asyncio.Task[Client]]:
    return [asyncio.create_task(client.run()) for client in clients]


async def judged(
    world: World, clients: list[Client], tasks: list[asyncio.Task[Client]], *, replays: int = 5
) -> Verdict:
    """Wait for the clients and for the queue to be empty, and judge. Raises what a client raised: a hang is a loss."""
    await asyncio.gather(*tasks)
    await world.quiet()
    verdict = await check(world, clients, replays=replays)
    assert not verdict.wrong, "\n".join(verdict.wrong)
    return verdict
