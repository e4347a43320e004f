"""Which deliveries have reached this worker, and the return of those that have not.

Redis counts a delivery when it writes its reply. A reply that is lost on the way leaves a job pending for a worker that
lives and does not know of it. Such a delivery is given back to the queue, and is not counted: no worker died of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from railstream import keys
from railstream.topology.repeating import RepeatableScript
from redis.asyncio import Redis

MOST_REMEMBERED: Final = 10_000
"""Deliveries; the oldest go first. One that is forgotten and runs is known by its claim."""
MOST_AT_ONCE: Final = 100

_GIVE_BACK: Final = RepeatableScript("""
-- KEYS jobs   ARGV group, consumer, entry id, idle ms, count
-- Makes a claim of ours look expired, so that the next scan takes it, and sets how often it counts as delivered
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if #pending == 0 or pending[1][2] ~= ARGV[2] then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', ARGV[4], 'RETRYCOUNT', ARGV[5], 'JUSTID')
return 1
""")

_HAND_OVER: Final = RepeatableScript("""
-- KEYS jobs   ARGV group, consumer, entry id, other consumer.  Makes a claim of ours the other one's
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if #pending == 0 or pending[1][2] ~= ARGV[2] then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[4], 0, ARGV[3], 'JUSTID')
return 1
""")


class Deliveries:
    """``in_flight``: seconds after which a reply that has not arrived is lost. ``lease`` in seconds."""

    def __init__(self, redis: Redis, *, pool: str, worker: str, lease: float, in_flight: float) -> None:
        self._redis = redis
        self._jobs = keys.jobs(pool)
        self._worker = worker
        self._expired = int(lease * 1000)
        self._in_flight = int(min(in_flight, lease) * 1000)
        self._arrived: dict[bytes, int] = {}

    def arrived(self, entry: bytes, count: int) -> None:
        """The ``count``-th delivery of the entry is here."""
        self._arrived.pop(entry, None)
        self._arrived[entry] = count
        if len(self._arrived) > MOST_REMEMBERED:
            del self._arrived[next(iter(self._arrived))]

    async def give_back(self, entry: bytes, count: int) -> None:
        """Let any worker take the entry at its next scan. ``count``: how often it counts as delivered from now on."""
        given = await self._redis.eval(
            _GIVE_BACK, 1, self._jobs, keys.GROUP, self._worker, entry, self._expired, max(0, count)
        )
        if given:
            self.arrived(entry, max(0, count))  # its next delivery here is a new one

    async def hand_over(self, entry: bytes, worker: str) -> None:
        """Make a claim of this worker that worker's."""
        await self._redis.eval(_HAND_OVER, 1, self._jobs, keys.GROUP, self._worker, entry, worker)

    async def give_back_lost(self, running: Callable[[], Collection[bytes]]) -> int:
        """Give back what pends for this worker and never reached it. Returns how many entries it were."""
        pending: list[Any] = await self._redis.xpending_range(
            self._jobs, keys.GROUP, "-", "+", MOST_AT_ONCE, consumername=self._worker, idle=self._in_flight
        )
        given = 0
        for found in pending:
            entry, count = found["message_id"], found["times_delivered"]
            if count > self._arrived.get(entry, 0) and entry not in running():
                await self.give_back(entry, count - 1)
                given += 1
        return given
