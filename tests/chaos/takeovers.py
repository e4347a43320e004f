"""How long a stream stands still: from the death of its worker to the write of the next attempt's first event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import redis
from chaos.world import World
from harness.processes import Worker
from railstream import keys

EVERY = 0.03
"""Seconds between looks; the measure is that coarse."""
LONGEST = 20.0


class Takeovers:
    """``alone``: seconds of each takeover that no second fault met; ``all``: of every one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alone: list[float] = []
        self.all: list[float] = []
        self._faults = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def disturb(self) -> None:
        """Something else breaks, or has just been mended: what waits now does not measure the lease alone."""
        self._faults += 1

    def running_on(self, worker: Worker, requests: Iterable[str]) -> dict[str, int]:
        """The attempts that a worker runs, by request id. Ask before it dies."""
        asked = [request for request in requests if request]
        try:
            found = self._hashes(asked)
        except redis.RedisError:
            return {}
        sign = f"-{worker.pid}-".encode()
        return {
            request: int(attempt)
            for request, (owner, status, attempt) in zip(asked, found, strict=True)
            if status == b"running" and owner is not None and sign in owner
        }

    def _hashes(self, requests: list[str]) -> list[Any]:
        with self.world.redis.client() as client, client.pipeline(transaction=False) as pipeline:
            for request in requests:
                pipeline.hmget(keys.request(request), "owner", "status", "attempt")
            return pipeline.execute()

    def measure(self, attempts: dict[str, int]) -> None:
        """From now until each has a later attempt."""
        if attempts:
            task = asyncio.create_task(self._measure(dict(attempts), time.monotonic(), self._faults))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _measure(self, waiting: dict[str, int], since: float, faults: int) -> None:
        while waiting and time.monotonic() < since + LONGEST:
            await asyncio.sleep(EVERY)
            asked = list(waiting)
            try:
                found = await asyncio.to_thread(self._hashes, asked)
            except redis.RedisError:
                continue
            now = time.monotonic()
            for request, (_, status, attempt) in zip(asked, found, strict=True):
                if attempt is None or status != b"running" or int(attempt) > waiting[request]:
                    if status == b"running" and attempt is not None:
                        self.all.append(now - since)
                        if faults == self._faults:
                            self.alone.append(now - since)
                    del waiting[request]

    async def settled(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)


def quantile(seconds: list[float], share: float) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
