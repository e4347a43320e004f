"""The attempts that run in this process: started from the queue, found by request id, drained at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from railstream import job as jobs
from railstream import keys
from railstream.dead_letters import bury

from railstream_worker.attempt import Attempt, Stop
from railstream_worker.consumer import Arrival
from railstream_worker.delivery import Delivery
from railstream_worker.slots import Slots
from railstream_worker.tools import Tools

log = logging.getLogger(__name__)


class Pool:
    """Each attempt holds one slot, taken before its job was read and given back when it is over."""

    def __init__(self, tools: Tools, slots: Slots) -> None:
        self._tools = tools
        self._slots = slots
        self._attempts: dict[str, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> Iterable[str]:
        return self._attempts.keys()

    async def start(self, arrival: Arrival) -> None:
        """Run the job that arrived beside the others. Its slot was taken by whoever read it."""
        try:
            job = jobs.decode(arrival.body)
        except ValueError as error:
            await self._drop(arrival.entry, arrival.body, str(error))
            return
        attempt = Attempt(Delivery(job, arrival), self._tools)
        self._attempts[job.id] = attempt
        task = asyncio.create_task(attempt.run(), name=job.id)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._over(attempt, done))

    def _over(self, attempt: Attempt, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._attempts.get(attempt.job.id) is attempt:
            del self._attempts[attempt.job.id]
        self._slots.give_back()
        if not task.cancelled() and (error := task.exception()) is not None:
            # The claim is not renewed any more: the job runs again after the lease.
            log.error("request %s: %s", attempt.job.id, error, exc_info=error)

    async def _drop(self, entry: bytes, raw: bytes, reason: str) -> None:
        """What is no job goes to the dead letters at once: no worker will ever read it better."""
        log.error("entry %s of the job stream is dead: %s", entry.decode(), reason)
        redis, jobs_key = self._tools.redis, keys.jobs(self._tools.pool)
        try:
            await bury(redis, job=raw, request_id="", pool=self._tools.pool, deliveries=1, reason=reason)
            await redis.xack(jobs_key, keys.GROUP, entry)
            await redis.xdel(jobs_key, entry)
        finally:
            self._slots.give_back()

    def cancel(self, request_id: str, reason: str) -> None:
        attempt = self._attempts.get(request_id)
        if attempt is not None:
            attempt.stop(Stop.CANCEL, reason)

    async def drain(self, timeout: float) -> None:
        """Let what runs go on for ``timeout`` seconds; then hand it back to be gone on with elsewhere."""
        if self._tasks:
            log.info("draining: %d generations may finish within %g s", len(self._tasks), timeout)
            await asyncio.wait(self._tasks, timeout=timeout)
        if self._tasks:
            log.info("draining: %d generations are handed back", len(self._tasks))
            for attempt in list(self._attempts.values()):
                attempt.stop(Stop.DRAIN)
            await asyncio.wait(self._tasks, timeout=5)
