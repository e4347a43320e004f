"""A job as the queue handed it over, and the two ways in which the queue is rid of it: acknowledged, or dead."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from railstream import dead_letters, keys
from railstream.errors import DeliveriesExhaustedError
from railstream.events import Failed
from railstream.job import Job

from railstream_worker.consumer import Arrival
from railstream_worker.tools import Tools

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """``arrival`` is the entry of the job stream that ``job`` was decoded from."""

    job: Job
    arrival: Arrival

    async def acknowledge(self, tools: Tools) -> None:
        pipeline = tools.redis.pipeline(transaction=False)
        pipeline.xack(keys.jobs(tools.pool), keys.GROUP, self.arrival.entry)
        pipeline.xdel(keys.jobs(tools.pool), self.arrival.entry)
        await pipeline.execute()

    async def bury(self, tools: Tools) -> Failed:
        """Keep it among the dead; what its stream ends with."""
        count = self.arrival.deliveries - 1
        error = DeliveriesExhaustedError(
            f"the request was given to {count} workers and none survived it; it is kept in {keys.DEAD}"
        )
        tools.telemetry.instruments.dead(error.code)
        log.error("request %s: dead after %d deliveries", self.job.id, count)
        await dead_letters.bury(
            tools.redis,
            job=self.arrival.body,
            request_id=self.job.id,
            pool=tools.pool,
            deliveries=count,
            reason=error.message,
        )
        return Failed(error=error.envelope(), status=error.status)
