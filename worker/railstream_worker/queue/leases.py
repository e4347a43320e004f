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
from railstream.worker_records import WorkerRecord
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from railstream_worker.queue.group import ensure_group, is_missing
from railstream_worker.queue.scripts import HAND_BACK, RENEW
from railstream_worker.queue.writing import Writing, is_outage, refuses

log = logging.getLogger(__name__)

RENEWED, ANOTHERS, NOT_PENDING = 1, 0, -1


@dataclass(slots=True)
class Claim:
    """One job that runs here. ``lost`` is called at most once, when it may belong to somebody else."""

    entry: bytes
    renewed: float
    lost: Callable[[], None]
    is_lost: bool = False

    def lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.lost()


class Leases:
    """``lease`` in seconds; ``margin`` is how long before its end a claim that was not renewed is given up."""

    def __init__(
        self, redis: Redis, *, pool: str, worker: str, lease: float, slots: int = 0, release: str = ""
    ) -> None:
        """``slots`` and ``release`` stand in the worker's record, for operators."""
        self.writing = Writing(redis)
        self._redis = redis
        self._jobs = keys.jobs(pool)
        self._record = WorkerRecord(worker, pool, jobs.VERSION, slots, release)
        self._worker = worker
        self._lease = lease
        self._margin = lease * 0.15
        self._claims: dict[bytes, Claim] = {}
        self._given_up: set[bytes] = set()

    def hold(self, entry: bytes, lost: Callable[[], None], *, since: float) -> Claim:
        """Start renewing the claim of ``entry``. ``since``: the monotonic time before it was claimed."""
        claim = Claim(entry, since, lost)
        self._claims[entry] = claim
        self._given_up.discard(entry)
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
            except (RedisError, OSError, TimeoutError) as error:
                self.writing.lost(error)
            await asyncio.sleep(self._lease / 5)

    async def renew(self) -> None:
        """One round: the claims are still this worker's own, and it is alive.

        The claims come first: a Redis without memory refuses the record, and lets everybody claim.
        """
        async with asyncio.timeout(self._lease / 2):
            await self._renew_claims()
            for entry in list(self._given_up):
                if entry in self._given_up:  # else it has come back as a new claim meanwhile
                    await self._hand_back(entry)
                    self._given_up.discard(entry)
            await worker_records.write(self._redis, self._record)

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
            self._given_up.add(claim.entry)
            claim.lose()

    async def hand_back(self, entry: bytes) -> None:
        """Let any worker take the entry at its next scan, without counting this delivery; later, if not now."""
        self._given_up.add(entry)
        try:
            await self._hand_back(entry)
        except (RedisError, OSError, TimeoutError) as error:
            if not is_outage(error) and not is_missing(error):
                raise
            log.debug("job %s is handed back later: %s", entry.decode(), error)
        else:
            self._given_up.discard(entry)

    async def _hand_back(self, entry: bytes) -> None:
        """Make our claim look expired."""
        idle = int(self._lease * 1000)
        await self._redis.eval(HAND_BACK, 1, self._jobs, keys.GROUP, self._worker, entry, idle)
