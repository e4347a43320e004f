"""Fixtures of the proof: worlds that may be broken, and clients whose stories are judged.

Starting a world costs more than most stories that happen in it, so worlds are used again: mended, and with the
choices of their seed begun anew. One in which a test failed is not.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from chaos.world import World, running_world
from harness.processes import Process

SEED = 20261120
"""Of every short run. The long run takes any, and prints it."""
KEPT = 3
"""Worlds that idle."""

StartWorld = Callable[..., Awaitable[World]]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "chaos: real processes are killed, frozen and cut off")


class Worlds:
    """Worlds by what they were asked to be."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._idle: dict[str, tuple[World, AsyncExitStack]] = {}
        self._number = 0

    async def take(self, given: dict[str, Any]) -> tuple[str, World, AsyncExitStack]:
        name = repr(sorted(given.items()))
        if name in self._idle:
            world, stack = self._idle.pop(name)
            await world.mend(SEED)
            Process.started.extend(world.processes)  # a report shows their logs
            return name, world, stack
        while len(self._idle) >= KEPT:
            _, stack = self._idle.pop(next(iter(self._idle)))
            await stack.aclose()
        self._number += 1
        stack = AsyncExitStack()
        directory = self._directory / f"world-{self._number}"
        return name, await stack.enter_async_context(running_world(directory, **{"seed": SEED} | given)), stack

    async def give_back(self, name: str, world: World, stack: AsyncExitStack, *, usable: bool) -> None:
        if usable and world.mendable and name not in self._idle:
            self._idle[name] = world, stack
        else:
            await stack.aclose()

    async def close(self) -> None:
        for _, stack in self._idle.values():
            await stack.aclose()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def worlds(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Worlds, None]:
    made = Worlds(tmp_path_factory.mktemp("chaos"))
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def start_world(request: pytest.FixtureRequest, worlds: Worlds) -> AsyncGenerator[StartWorld, None]:
    """``await start_world(workers=2, gateways=2, aof="always", …)``, see `running_world`."""
    taken: list[tuple[str, World, AsyncExitStack]] = []

    async def start(**given: Any) -> World:
        taken.append(await worlds.take(given))
        return taken[-1][1]

    failed_before = request.session.testsfailed
    yield start
    for name, world, stack in taken:
        await worlds.give_back(name, world, stack, usable=request.session.testsfailed == failed_before)
