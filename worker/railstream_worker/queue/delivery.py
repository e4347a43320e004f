"""A job as the queue handed it over, and the two ways in which the queue is rid of it: acknowledged, or dead."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from railstream import dead_letters, keys
from railstream.errors import DeliveriesExhaustedError
from railstream.events import Failed
from railstream.job import Job

from railstream_worker.attempts.resources import Tools
from railstream_worker.queue.reader import Arrival

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """``arrival`` is the entry of the job stream that ``job`` was decoded from."""

    job: Job
    arrival: Arrival

    async def acknowledge(self, tools: Tools) -> None:
        """Take it off the queue. Raises ``RedisError``; it may be repeated."""
        pipeline = tools.redis.pipeline(transaction=False)
        pipeline.xack(keys.jobs(tools.pool), keys.GROUP, self.arrival.entry)
        pipeline.xdel(keys.jobs(tools.pool), self.arrival.entry)
        await pipeline.execute()

    async def bury(self, tools: Tools) -> Failed:
        """Keep it among the dead, if it can be kept; what its stream ends with."""
        count = self.arrival.deliveries - 1
        error = DeliveriesExhaustedError(
            f"the request was given to {count} workers and none survived it; it is kept in {keys.DEAD}"
        )
        tools.telemetry.instruments.dead(error.code)
        log.error("request %s: dead after %d deliveries", self.job.id, count)
        await keep_dead(tools, self.arrival, self.job.id, deliveries=count, reason=error.message)
        return Failed(error=error.envelope(), status=error.status)


async def keep_dead(tools: Tools, arrival: Arrival, request_id: str, *, deliveries: int, reason: str) -> None:
    """Among the dead letters. One that cannot be written is logged: it keeps no request from its end."""

    async def bury() -> None:
        await dead_letters.bury(
            tools.redis,
            job=arrival.body,
            request_id=request_id,
            pool=tools.pool,
            deliveries=deliveries,
            reason=reason,
            kept=tools.dead_retention,
        )

    try:
        await tools.leases.writing.repeat(bury)
    except Exception:
        log.exception("request %s: its dead letter cannot be written", request_id or "without an id")
