"""How jobs reach this worker: one loop for new jobs, one for jobs whose worker has died.

Both take a slot before they read, so that a worker holds only what it can run. They make a lost group again, wait
longer after each error, and read nothing while Redis takes no writes: such a job could not be run. FastStream's own
subscribers (0.7) do none of this, and its public API lets nobody change how they read. The messages are FastStream's:
any of its publishers and subscribers can use the job stream.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from faststream.redis import BinaryMessageFormatV1
from railstream import keys
from railstream.requests import DATA
from railstream.topology.recovery import FAILURES, Recovery
from redis.asyncio import Redis

from railstream_worker.queue.group import ensure_group, is_missing
from railstream_worker.queue.leases import Leases
from railstream_worker.queue.slots import Slots

log = logging.getLogger(__name__)

BLOCK_MS: Final = 500
"""Milliseconds that a blocking read holds a slot at most, so that the other loop gets its turn at the last one."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An entry of the job stream as it was read.

    Args:
        entry: its id in the stream.
        deliveries: how often it was delivered, this time included.
        claimed_at: monotonic seconds, taken before Redis was asked: the claim is at least that old.
        body: the encoded job.
        headers: of the message.
        first: whether this is the group's first delivery of it.
    """

    entry: bytes
    deliveries: int
    claimed_at: float
    body: bytes
    headers: dict[str, str]
    first: bool = False

    @property
    def message_id(self) -> str:
        """The message's own id: the request's, when a gateway has sent it; empty when it has none."""
        return self.headers.get("correlation_id", "")


Delivered = tuple[bytes, dict[bytes, bytes], int, bool]
"""Entry id, fields, deliveries, and whether this is the first one as far as the group knows."""


class JobReader:
    """Reads the job stream of one pool for one worker. ``handler`` gets each job and, with it, its slot.

    ``lease`` and ``scan`` in seconds: how long a claim is good for, and how often expired ones are looked for.
    """

    def __init__(
        self,
        redis: Redis,
        slots: Slots,
        leases: Leases,
        handler: Callable[[Arrival], Awaitable[None]],
        *,
        pool: str,
        worker: str,
        lease: float,
        scan: float,
    ) -> None:
        self._redis = redis
        self._slots = slots
        self._leases = leases
        self._handler = handler
        self._stream = keys.jobs(pool)
        self._worker = worker
        self._lease = lease
        self._scan = scan

    async def read_new(self) -> None:
        """Until cancelled: jobs that no worker has seen."""
        await self._repeat("reading new jobs", self._leases.writing.wait, self._next_new, rest=0)

    async def read_expired(self) -> None:
        """Until cancelled: jobs whose claim was not renewed for the lease. One look over the pending list per scan."""

        async def ready() -> None:
            # After an outage of Redis, living workers need a moment to renew their claims or to hand them back.
            await self._leases.writing.wait_steady(self._lease / 2)

        await self._repeat("reading expired jobs", ready, self._next_expired, rest=self._scan)

    async def _repeat(
        self,
        what: str,
        ready: Callable[[], Awaitable[None]],
        next_job: Callable[[], Awaitable[Delivered | None]],
        *,
        rest: float,
    ) -> None:
        """``rest``: seconds to wait when there was no job."""
        recovery = Recovery(log, what)
        while True:
            await ready()
            try:
                found = await self._read(next_job)
            except FAILURES as error:
                if is_missing(error):
                    await ensure_group(self._redis, self._stream)
                await recovery.failed(error)
                continue
            recovery.succeeded()
            if not found:
                await asyncio.sleep(rest)

    async def _read(self, next_job: Callable[[], Awaitable[Delivered | None]]) -> bool:
        """Read at most one job with a slot in hand, and hand both over. False when there was none."""
        await self._slots.take()
        asked = time.monotonic()
        try:
            found = await next_job()
            arrival = None if found is None else self._arrival(*found, asked)
        except BaseException:
            self._slots.give_back()
            raise
        if arrival is None:
            self._slots.give_back()
            return False
        await self._handler(arrival)
        return True

    def _arrival(
        self, entry: bytes, fields: dict[bytes, bytes], deliveries: int, first: bool, asked: float
    ) -> Arrival | None:
        """``None`` for an entry whose job runs here already: its group was made anew."""
        if first and self._leases.holds(entry):
            return None
        self._leases.arrived(entry, deliveries)
        body, headers = BinaryMessageFormatV1.parse(fields.get(DATA.encode(), b""))
        return Arrival(entry, deliveries, asked, body, headers, first)

    async def _next_new(self) -> Delivered | None:
        answer: Any = await self._redis.xreadgroup(
            keys.GROUP, self._worker, {self._stream: ">"}, count=1, block=BLOCK_MS
        )
        if not answer:
            return None
        entry, fields = answer[0][1][0]
        return entry, fields, 1, True

    async def _next_expired(self) -> Delivered | None:
        lease_ms = int(self._lease * 1000)
        pending: Any = await self._redis.xpending_range(self._stream, keys.GROUP, "-", "+", 1, idle=lease_ms)
        if not pending:
            return None
        if not await self._leases.writing.probe():  # a Redis without memory would let us claim what we could not run
            return None
        entry, deliveries = pending[0]["message_id"], pending[0]["times_delivered"]
        claimed: Any = await self._redis.xclaim(self._stream, keys.GROUP, self._worker, lease_ms, [entry])
        if not claimed:
            return None  # another worker was quicker, or the entry is deleted
        found, fields = claimed[0]
        if fields is None:
            await self._redis.xack(self._stream, keys.GROUP, found)
            return None
        return found, fields, deliveries + 1, False
