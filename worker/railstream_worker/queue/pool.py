"""The attempts that run in this process: started from the queue, found by request id, drained at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from railstream import job as jobs
from railstream import keys, worker_records
from railstream.errors import JobNotUnderstoodError
from railstream.events import Failed
from railstream.job import Envelope
from railstream.topology.recovery import FAILURES

from railstream_worker.attempts.attempt import Attempt, Stop
from railstream_worker.attempts.resources import Tools
from railstream_worker.queue.delivery import Delivery, keep_dead
from railstream_worker.queue.reader import Arrival
from railstream_worker.queue.reservation import fail
from railstream_worker.queue.slots import Slots

log = logging.getLogger(__name__)


class Pool:
    """Each attempt holds one slot, taken before its job was read and given back when it is over."""

    def __init__(self, tools: Tools, slots: Slots, *, rest: float = 2.0) -> None:
        """``rest``: seconds without a new job after one was left to a newer worker; more than that worker's scan."""
        self.rest = rest
        self._tools = tools
        self._slots = slots
        self._attempts: dict[str, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> Iterable[str]:
        return self._attempts.keys()

    @property
    def busy(self) -> int:
        """Jobs that run now."""
        return len(self._tasks)

    async def start(self, arrival: Arrival) -> None:
        """Run the job that arrived beside the others. Its slot was taken by whoever read it."""
        try:
            job = jobs.decode(arrival.body)
            attempt = Attempt(Delivery(job, arrival), self._tools)
        except Exception as error:  # also of JSON that is nested too deep: whatever it is, the slot must come back
            return await self._refuse(arrival, str(error) or repr(error))
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

    async def _refuse(self, arrival: Arrival, reason: str) -> None:
        """End what cannot be run, or leave it to workers that can run it. Its slot is given back."""
        try:
            envelope = jobs.read_envelope(arrival.body, arrival.message_id)
            if not envelope.is_understood and await self._newer_lives(envelope):
                await self._tools.leases.hand_back(arrival.entry, arrival.deliveries)
                log.warning("request %s: left to a newer worker: %s", envelope.id, reason)
                await asyncio.sleep(self.rest)  # else this worker could be the first to look again
            else:
                await self._end_unread(arrival, envelope, reason)
        except FAILURES as error:
            log.warning("entry %s of the job stream waits for redis: %s", arrival.entry.decode(), error)
        finally:
            self._slots.give_back()

    async def _newer_lives(self, envelope: Envelope) -> bool:
        """Whether a worker of this pool lives that understands more jobs than this release does."""
        needed = max(envelope.version, jobs.VERSION + 1)
        living = await worker_records.living(self._tools.redis)
        return any(record.pool == self._tools.pool and record.version >= needed for record in living)

    async def _end_unread(self, arrival: Arrival, envelope: Envelope, reason: str) -> None:
        """The request ends by the id of its envelope; the job goes to the dead letters."""
        tools = self._tools
        error = JobNotUnderstoodError(
            "no worker here understands the request: update the workers before the gateways, and send it again"
        )
        log.error("entry %s of the job stream (request %s) is dead: %s", arrival.entry.decode(), envelope.id, reason)
        tools.telemetry.instruments.dead(error.code)
        await keep_dead(tools, arrival, envelope.id, deliveries=arrival.deliveries, reason=reason)
        if envelope.id:
            failed = Failed(error=error.envelope(), status=error.status, retryable=error.retryable)
            await fail(tools.redis, envelope.id, arrival.entry, failed, tools.retention)
        jobs_key = keys.jobs(tools.pool)
        await tools.redis.xack(jobs_key, keys.GROUP, arrival.entry)
        await tools.redis.xdel(jobs_key, arrival.entry)

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
