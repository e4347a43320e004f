"""Hold the claims of the jobs that run here: renew them while they do, and let go of what cannot be renewed.

A claim that nobody renews for the lease is taken over by another worker. So a worker that cannot reach Redis stops
generating before that moment: by its own clock, counted from before the last renewal was sent. A Redis that answers
and takes no writes lets nobody take a claim: then the claims are kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from railstream import job as jobs
from railstream import keys, worker_records
from railstream.topology.recovery import FAILURES
from railstream.worker_records import WorkerRecord
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from railstream_worker.queue.deliveries import Deliveries
from railstream_worker.queue.group import ensure_group, is_missing
from railstream_worker.queue.scripts import RENEW
from railstream_worker.queue.writing import Writing, is_outage, refuses

log = logging.getLogger(__name__)

RENEWED, ANOTHERS, NOT_PENDING = 1, 0, -1


@dataclass(slots=True)
class Claim:
    """One job that runs here. ``lost`` is called at most once, when it may belong to somebody else."""

    entry: bytes
    deliveries: int
    renewed: float
    lost: Callable[[], None]
    is_lost: bool = False

    def lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.lost()


class Leases:
    """``lease`` in seconds; ``margin`` is how long before its end a claim that was not renewed is given up.

    ``redis_timeout``: seconds after which a reply of Redis is not waited for any more. ``slots`` and ``release`` stand
    in the worker's record, for operators.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        pool: str,
        worker: str,
        lease: float,
        redis_timeout: float,
        slots: int = 0,
        release: str = "",
    ) -> None:
        self.writing = Writing(redis)
        self._deliveries = Deliveries(redis, pool=pool, worker=worker, lease=lease, in_flight=redis_timeout)
        self._redis = redis
        self._jobs = keys.jobs(pool)
        self._record = WorkerRecord(worker, pool, jobs.VERSION, slots, release)
        self._worker = worker
        self._lease = lease
        self._margin = lease * 0.15
        self._claims: dict[bytes, Claim] = {}
        self._given_up: dict[bytes, int] = {}
        """Entries to hand back, and how often each counts as delivered then."""

    def arrived(self, entry: bytes, deliveries: int) -> None:
        """A reader has got the entry: whatever this worker did with it before is over."""
        self._deliveries.arrived(entry, deliveries)
        self._given_up.pop(entry, None)

    def holds(self, entry: bytes) -> bool:
        """Whether the entry's job runs here, under a claim that is not lost."""
        claim = self._claims.get(entry)
        return claim is not None and not claim.is_lost

    def hold(self, entry: bytes, lost: Callable[[], None], *, since: float, deliveries: int) -> Claim:
        """Start renewing the claim of ``entry``. ``since``: the monotonic time before it was claimed."""
        claim = Claim(entry, deliveries, since, lost)
        self._claims[entry] = claim
        self._check(claim)
        return claim

    def release(self, claim: Claim) -> None:
        """Of this claim alone: an entry that this worker lost may have come back to it as a new one."""
        if self._claims.get(claim.entry) is claim:
            del self._claims[claim.entry]

    async def run(self) -> None:
        """Renew until cancelled; the watch on the clock goes on while Redis does not answer."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew_often())
            tasks.create_task(self._watch())

    async def _renew_often(self) -> None:
        while True:
            try:
                await self.renew()
                self.writing.found()
                await self._give_back_lost()
            except FAILURES as error:
                self.writing.lost(error)
            await asyncio.sleep(self._lease / 5)

    async def renew(self) -> None:
        """One round: the claims are still this worker's own, and it is alive.

        The claims come first: a Redis without memory refuses the record, and lets everybody claim.
        """
        async with asyncio.timeout(self._lease / 2):
            await self._renew_claims()
            for entry, count in list(self._given_up.items()):
                if entry in self._given_up:  # else it has come back as a new claim meanwhile
                    await self._deliveries.give_back(entry, count)
                    self._given_up.pop(entry, None)
            running = [claim.entry for claim in self._claims.values() if not claim.is_lost]
            await worker_records.write(self._redis, self._record, running)

    async def _give_back_lost(self) -> None:
        """What is not given back now is at the next round, or when the lease is over."""
        try:
            async with asyncio.timeout(self._lease / 2):
                lost = await self._deliveries.give_back_lost(self._claims.keys)
        except FAILURES as error:
            log.debug("jobs whose delivery was lost are given back later: %s", error)
        else:
            if lost:
                log.warning("%d jobs whose delivery was lost on its way are given back to the queue", lost)

    async def _renew_claims(self) -> None:
        now = time.monotonic()
        claims = list(self._claims.values())
        if not claims:
            return
        try:
            states = await self._renewed([claim.entry for claim in claims])
        except ResponseError as error:
            if refuses(error):
                for claim in claims:
                    claim.renewed = now
            raise
        for claim, state in zip(claims, states, strict=True):
            if state == ANOTHERS:
                log.warning("job %s was taken over by another worker", claim.entry.decode())
                claim.lose()
            else:
                # Not pending at all: Redis lost the queue, and nobody else can have the job.
                claim.renewed = now

    async def _renewed(self, entries: Sequence[bytes]) -> Sequence[int]:
        """The state of each. A group that is gone is made again here: no reader may have a free slot to notice it."""
        try:
            states: list[int] = await self._redis.eval(RENEW, 1, self._jobs, keys.GROUP, self._worker, *entries)
        except ResponseError as error:
            if not is_missing(error):
                raise
            await ensure_group(self._redis, self._jobs)
            return [NOT_PENDING] * len(entries)
        return states

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 20)
            for claim in list(self._claims.values()):
                self._check(claim)

    def _check(self, claim: Claim) -> None:
        if claim.renewed < time.monotonic() - self._lease + self._margin and not claim.is_lost:
            log.warning("job %s: its claim could not be renewed in time", claim.entry.decode())
            self._given_up[claim.entry] = claim.deliveries - 1
            claim.lose()

    async def hand_over(self, entry: bytes, worker: str) -> None:
        """Give our claim to the worker that runs the job; if it does not renew it, the lease ends as any other."""
        await self._deliveries.hand_over(entry, worker)

    async def hand_back(self, entry: bytes, deliveries: int) -> None:
        """Let any worker take the entry at its next scan; later, if not now.

        What is handed back did not fail: of its ``deliveries`` this one is not counted.
        """
        self._given_up[entry] = deliveries - 1
        try:
            await self._deliveries.give_back(entry, deliveries - 1)
        except FAILURES as error:
            if not is_outage(error) and not is_missing(error):
                raise
            log.debug("job %s is handed back later: %s", entry.decode(), error)
        else:
            self._given_up.pop(entry, None)
