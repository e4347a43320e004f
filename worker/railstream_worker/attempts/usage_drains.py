"""The calls that this worker reads on after they were left, to correct the ledger by what their providers count.

A drain holds no slot of the worker: its request is over. It holds its model's turn, which the provider still serves.
There are at most as many drains as slots; what comes beyond is closed at once. So is each of them when the worker
stops: the estimate that was recorded when the call was left stands until it is corrected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from railstream import usage as ledger
from railstream.config.serving import UsageDrain
from railstream.job import Job
from railstream_engine.generation.left_call import Leave, LeftCall
from redis.asyncio import Redis
from redis.exceptions import RedisError

from railstream_worker.queue.writing import Writing

log = logging.getLogger(__name__)

ACCEPTED_WITHIN: Final = 60.0
"""Seconds for Redis to answer the record of the call, past which the record is not corrected."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Where the record of one call stands. ``accepted``: whether Redis took it; a superseded attempt's is refused."""

    day: str
    accepted: asyncio.Future[bool]


class UsageDrains:
    """``most`` at once."""

    def __init__(self, redis: Redis, writing: Writing, *, most: int) -> None:
        self._redis = redis
        self._writing = writing
        self._most = most
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def leaver(self, job: Job, bounds: UsageDrain | None, recorded: Callable[[str], Recorded | None]) -> Leave | None:
        """What an attempt's caller leaves its calls to; ``None`` when the config asks for no drain.

        ``recorded`` gives the record of a call, or ``None`` when it has none or its attempt was stopped without an end.
        """
        if bounds is None:
            return None

        def leave(call: LeftCall) -> bool:
            record = recorded(call.usage.call)
            if record is None or self._closed or len(self._tasks) >= self._most:
                return False
            task = asyncio.create_task(self._drain(job, bounds, call, record), name=f"usage of {job.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return True

        return leave

    async def _drain(self, job: Job, bounds: UsageDrain, call: LeftCall, record: Recorded) -> None:
        try:
            known = await call.read_on(bounds)
            async with asyncio.timeout(ACCEPTED_WITHIN):
                accepted = await record.accepted
            if accepted and known != call.usage:
                await self._writing.repeat(
                    lambda: ledger.correct(self._redis, job.id, job.tenant, call.usage, known, day=record.day)
                )
        except RedisError as error:
            log.warning("request %s: the usage of call %s stays an estimate: %s", job.id, call.usage.call, error)
        except Exception:
            log.exception("request %s: the usage of call %s stays an estimate", job.id, call.usage.call)

    def close(self) -> None:
        """End all of them now, and begin no other one."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def wait(self) -> None:
        """Until all have ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
