"""Hold the claims of the jobs that run here: renew them while they do, and let go of what cannot be renewed.

A claim that nobody renews for the lease is taken over by another worker. So a worker that cannot reach Redis stops
generating before that moment: by its own clock, counted from before the last renewal was sent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from railstream import keys
from redis.asyncio import Redis
from redis.exceptions import RedisError

from railstream_worker.scripts import HAND_BACK, RENEW

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

    def __init__(self, redis: Redis, *, pool: str, worker: str, lease: float) -> None:
        self._redis = redis
        self._jobs = keys.jobs(pool)
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
        down = False
        while True:
            try:
                await self.renew()
                if down:
                    log.info("claims are renewed again")
                down = False
            except (RedisError, OSError, TimeoutError) as error:
                if not down:
                    log.warning("claims cannot be renewed: %s", error)
                down = True
            await asyncio.sleep(self._lease / 5)

    async def renew(self) -> None:
        """One round: this worker is alive, and these claims are still its own."""
        now = time.monotonic()
        claims = list(self._claims.values())
        async with asyncio.timeout(self._lease / 2):
            await self._redis.zadd(keys.WORKERS, {self._worker: time.time()})
            for entry in list(self._given_up):
                if entry in self._given_up:  # else it has come back as a new claim meanwhile
                    await self.hand_back(entry)
                    self._given_up.discard(entry)
            if not claims:
                return
            entries = [claim.entry for claim in claims]
            states = await self._redis.eval(RENEW, 1, self._jobs, keys.GROUP, self._worker, *entries)
        for claim, state in zip(claims, states, strict=True):
            if state == ANOTHERS:
                log.warning("job %s was taken over by another worker", claim.entry.decode())
                claim.lose()
            else:
                # Not pending at all: Redis lost the queue, and nobody else can have the job.
                claim.renewed = now

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
        """Make our claim look expired, so that the next scan of any worker takes it."""
        idle = int(self._lease * 1000)
        await self._redis.eval(HAND_BACK, 1, self._jobs, keys.GROUP, self._worker, entry, idle)
