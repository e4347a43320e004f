"""Let in what can be served: refuse at once, with a time to come back, what would only wait.

The queue is sampled in the background, so a request is judged without asking Redis; what this gateway let in since
the sample is added.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from railstream import keys, worker_records
from railstream.errors import OverloadedError
from railstream.logs import Outage
from railstream.settings import GatewaySettings
from railstream.topology.recovery import FAILURES
from railstream.worker_records import serving
from redis.asyncio import Redis

log = logging.getLogger(__name__)

INTERVAL: Final = 0.25
"""Seconds between samples."""
COUNT_WORKERS_EVERY: Final = 5.0
"""Seconds."""
LONGEST_RETRY: Final = 30
"""Seconds: the most that a client is told to wait."""

_SAMPLE: Final = """
-- KEYS jobs   ARGV group.  Returns {waiting jobs, age of the oldest in ms}
if redis.call('EXISTS', KEYS[1]) == 0 then return {0, 0} end
local last, pending = '0-0', 0
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local field = {}
  for i = 1, #group, 2 do field[group[i]] = group[i + 1] end
  if field['name'] == ARGV[1] then last, pending = field['last-delivered-id'], field['pending'] end
end
local oldest = redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', 1)
if #oldest == 0 then return {0, 0} end
local now = redis.call('TIME')
local added = tonumber(string.match(oldest[1][1], '^(%d+)'))
return {math.max(1, redis.call('XLEN', KEYS[1]) - pending), math.floor(now[1] * 1000 + now[2] / 1000 - added)}
"""


@dataclass(slots=True)
class Sample:
    """One pool's queue. ``admitted``: let in by this gateway since."""

    waiting: int = 0
    age: float = 0.0
    admitted: int = 0


class Admission:
    """`run` it in a task of its own; ask `admit` before a job is queued."""

    def __init__(self, redis: Redis, settings: GatewaySettings, pools: Iterable[str]) -> None:
        self._redis = redis
        self._settings = settings
        self._samples = {pool: Sample() for pool in pools}
        self._outage = Outage(log, "redis")
        self._workers: dict[str, int] = {}
        self._counted_at = -math.inf

    @property
    def redis_is_up(self) -> bool:
        return not self._outage.lasts

    def known_queues(self) -> dict[str, Sample] | None:
        """The latest sample by pool; ``None`` while Redis is down."""
        return self.queues() if self.redis_is_up else None

    def workers(self) -> Mapping[str, int]:
        """Living workers by pool, as of the latest look; empty while Redis is out."""
        return self._workers if self.redis_is_up else {}

    def queues(self) -> dict[str, Sample]:
        """The latest sample by pool."""
        return dict(self._samples)

    def admit(self, pool: str) -> None:
        """Raises `OverloadedError` when the queue is too long or too old, or Redis is down."""
        if not self.redis_is_up:
            raise unavailable()
        sample, settings = self._samples[pool], self._settings
        if sample.age > settings.queue_age_limit:
            raise OverloadedError(
                f"the oldest job has waited for {sample.age:.0f} s; the limit is {settings.queue_age_limit:.0f} s",
                code="queue_too_old",
                status=503,
                retry_after=min(LONGEST_RETRY, math.ceil(sample.age - settings.queue_age_limit) + 1),
            )
        waiting = sample.waiting + sample.admitted
        if waiting >= settings.queue_limit:
            raise OverloadedError(
                f"{waiting} jobs wait already; the limit is {settings.queue_limit}",
                code="queue_full",
                status=429,
                retry_after=min(LONGEST_RETRY, math.ceil(sample.age) + 1),
            )
        sample.admitted += 1

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            try:
                for pool in self._samples:
                    await self.sample(pool)
                if time.monotonic() > self._counted_at + COUNT_WORKERS_EVERY:
                    await self.count_workers()
                self._outage.end()
            except FAILURES as error:
                self._outage.begin(error)
            await asyncio.sleep(INTERVAL)

    async def sample(self, pool: str) -> None:
        """Look at one queue now."""
        sample = self._samples[pool]
        before = sample.admitted
        waiting, age = await self._redis.eval(_SAMPLE, 1, keys.jobs(pool), keys.GROUP)
        sample.waiting, sample.age = int(waiting), int(age) / 1000
        sample.admitted -= before

    async def count_workers(self) -> None:
        """Look at the workers now."""
        living = await worker_records.living(self._redis)
        self._workers = {pool: len(serving(living, pool)) for pool in self._samples}
        self._counted_at = time.monotonic()


def unavailable() -> OverloadedError:
    return OverloadedError("redis does not answer; try again", code="redis_unavailable", status=503, retry_after=2)
