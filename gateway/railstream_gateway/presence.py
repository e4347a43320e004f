"""A reader's presence: the last one that leaves a running request cancels it, if its policy says so.

A gateway that drains, dies or closes a slow reader is not a client that leaves: its readers may come back.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Final

from railstream.errors import InvalidRequestError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from railstream_gateway import records

log = logging.getLogger(__name__)

HEADER: Final = "x-railstream-on-disconnect"
CANCEL: Final = "cancel"
CONTINUE: Final = "continue"
LONGEST_GRACE: Final = 3600.0
"""Seconds."""
CLOSED_GRACE: Final = 30.0
"""Seconds that a reader whom we closed (too slow) has to come back."""


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

    def __init__(self, redis: Redis, *, retention: float, cancelled: Callable[[], None] = lambda: None) -> None:
        """``cancelled`` is called for each request that is cancelled because nobody reads it."""
        self._redis = redis
        self._retention = retention
        self._cancelled = cancelled
        self._tasks: set[asyncio.Task[None]] = set()

    async def attach(self, request_id: str, policy: str) -> None:
        """One reader more, for a request that runs. ``policy``: the new one, or empty."""
        await records.count_reader(self._redis, request_id, +1, policy)

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
            await records.count_reader(self._redis, request_id, -1)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("request %s: its reader could not be counted out: %s", request_id, error)

    async def _leave(self, request_id: str, closed_by_us: bool) -> None:
        try:
            readers, running, policy = await records.count_reader(self._redis, request_id, -1)
            if readers > 0 or not running or policy == CONTINUE:
                return
            grace = grace_of(policy)
            if closed_by_us:
                grace = max(grace or 0.0, CLOSED_GRACE)
            if grace:
                return self._spawn(self._cancel_after(grace, request_id), name="grace")
            await self._cancel(request_id)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("request %s: its reader left, and it could not be cancelled: %s", request_id, error)

    async def _cancel_after(self, grace: float, request_id: str) -> None:
        await asyncio.sleep(grace)
        try:
            await self._cancel(request_id)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("request %s: nobody came back, and it could not be cancelled: %s", request_id, error)

    async def _cancel(self, request_id: str) -> None:
        if await records.cancel(
            self._redis, request_id, reason="disconnect", retention=self._retention, only_unread=True
        ):
            self._cancelled()
