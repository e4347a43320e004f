"""A reader's presence: the last one that leaves a running request cancels it, if its policy says so.

A gateway that drains, dies or closes a slow reader is not a client that leaves: its readers may come back. Readers are
counted by gateway, and each gateway keeps a key of its own alive: those of a dead one keep no request running.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Collection, Coroutine
from typing import Final

from railstream import keys
from railstream.errors import InvalidRequestError
from railstream.topology.recovery import FAILURES
from redis.asyncio import Redis

from railstream_gateway.accept import records

log = logging.getLogger(__name__)

HEADER: Final = "x-railstream-on-disconnect"
CANCEL: Final = "cancel"
CONTINUE: Final = "continue"
LONGEST_GRACE: Final = 3600.0
"""Seconds."""
CLOSED_GRACE: Final = 30.0
"""Seconds that a reader whom we closed (too slow) has to come back."""
LIFE: Final = 30.0
"""Seconds that a gateway's key outlives its last beat: who has none is dead, and its readers had time to come back."""
BEATS: Final = 3
"""In one life."""
AGAIN: Final = 1.0
"""Seconds until the next beat when one failed."""
BROKEN: Final = FAILURES


def parse_policy(value: str | None) -> str:
    """A checked policy; empty when none was given.

    Raises:
        InvalidRequestError: it is none of ``cancel``, ``continue`` and ``grace=<seconds>``.
    """
    if value is None:
        return ""
    policy = value.strip().lower()
    if policy in (CANCEL, CONTINUE) or grace_of(policy) is not None:
        return policy
    raise InvalidRequestError(
        f"{value[:80]!r} is no policy: expected cancel, continue or grace=<seconds> up to {LONGEST_GRACE:.0f}",
        param="X-Railstream-On-Disconnect",
    )


def grace_of(policy: str) -> float | None:
    """Seconds of ``grace=<seconds>``; ``None`` when it is something else."""
    name, _, number = policy.partition("=")
    try:
        seconds = float(number) if name == "grace" else math.nan
    except ValueError:
        return None
    return seconds if 0 <= seconds <= LONGEST_GRACE else None


class Presence:
    """The readers of this gateway, and the grace that runs for those who left."""

    def __init__(
        self, redis: Redis, name: str, *, retention: float, cancelled: Callable[[], None] = lambda: None
    ) -> None:
        """``name``: of this gateway, as long as it lives. ``cancelled`` is called for each request that is cancelled
        because nobody reads it.
        """
        self.name = name
        self._redis = redis
        self._retention = retention
        self._cancelled = cancelled
        self._tasks: set[asyncio.Task[None]] = set()
        self._steady_since = math.inf
        """The moment since which no beat failed, by the loop's clock."""

    async def run(self) -> None:
        """Beat. The key goes with this gateway when it stops, and by itself when it dies."""
        loop, key = asyncio.get_running_loop(), keys.gateway(self.name)
        try:
            while True:
                try:
                    await self._redis.set(key, 1, px=round(LIFE * 1000))
                    self._steady_since = min(self._steady_since, loop.time())
                    await asyncio.sleep(LIFE / BEATS)
                except BROKEN as error:
                    log.debug("the gateway's key could not be renewed: %s", error)
                    self._steady_since = math.inf
                    await asyncio.sleep(min(AGAIN, LIFE / BEATS))
        finally:
            with contextlib.suppress(*BROKEN):
                await self._redis.delete(key)

    async def attach(self, request_id: str, policy: str) -> None:
        """One reader more, for a request that runs. ``policy``: the new one, or empty."""
        await records.count_reader(self._redis, request_id, self.name, +1, policy)

    def leave(self, request_id: str, *, closed_by_us: bool = False) -> None:
        """The client is gone, or was closed for being slow. Never blocks."""
        self._spawn(self._leave(request_id, closed_by_us))

    def release(self, request_id: str) -> None:
        """The reader is let go because this gateway stops."""
        self._spawn(self._release(request_id))

    async def aclose(self) -> None:
        """Finish what is short; drop the graces that run: their requests go on."""
        for task in list(self._tasks):
            if task.get_name() == "grace":
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)

    def _spawn(self, work: Coroutine[None, None, None], name: str = "leave") -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _release(self, request_id: str) -> None:
        try:
            await records.count_reader(self._redis, request_id, self.name, -1)
        except BROKEN as error:
            log.warning("request %s: its reader could not be counted out: %s", request_id, error)

    async def _leave(self, request_id: str, closed_by_us: bool) -> None:
        try:
            readers = await records.count_reader(self._redis, request_id, self.name, -1)
            if self.name in readers.gateways or not readers.running or readers.policy == CONTINUE:
                return
            grace = grace_of(readers.policy) or 0.0
            if closed_by_us:
                grace = max(grace, CLOSED_GRACE)
            dead = await self._dead(readers.gateways)
            if len(dead) < len(readers.gateways):
                grace = max(grace, LIFE)  # whoever lives counts its own readers; whoever has just died is known by then
            if grace:
                return self._spawn(self._cancel_after(grace, request_id), name="grace")
            await self._cancel(request_id, dead)
        except BROKEN as error:
            log.warning("request %s: its reader left, and it could not be cancelled: %s", request_id, error)

    async def _cancel_after(self, grace: float, request_id: str) -> None:
        await asyncio.sleep(grace)
        try:
            readers = await records.count_reader(self._redis, request_id, self.name, 0)
            await self._cancel(request_id, await self._dead(readers.gateways))
        except BROKEN as error:
            log.warning("request %s: nobody came back, and it could not be cancelled: %s", request_id, error)

    async def _cancel(self, request_id: str, dead: Collection[str]) -> None:
        if await records.cancel(
            self._redis, request_id, reason="disconnect", retention=self._retention, only_unread=True, dead=dead
        ):
            self._cancelled()

    async def _dead(self, gateways: Collection[str]) -> Collection[str]:
        """Those that have not beaten for a life. While we could not for so long, nobody is known to be dead."""
        others = [name for name in gateways if name != self.name]
        if not others or asyncio.get_running_loop().time() - self._steady_since < LIFE:
            return ()
        pipeline = self._redis.pipeline(transaction=False)
        for name in others:
            pipeline.exists(keys.gateway(name))
        return [name for name, lives in zip(others, await pipeline.execute(), strict=True) if not lives]
