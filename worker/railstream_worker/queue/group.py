"""The consumer group of a job stream: made by whoever notices that it is missing, and rid of dead consumers."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from railstream import keys, worker_records
from railstream.topology.recovery import FAILURES
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from railstream_worker.queue.scripts import FORGET_CONSUMER

log = logging.getLogger(__name__)

FORGET_EVERY: Final = 30.0
"""Seconds between two looks for dead consumers."""


def is_missing(error: BaseException) -> bool:
    """Redis said that the stream or its group does not exist."""
    return isinstance(error, ResponseError) and ("NOGROUP" in str(error) or "no such key" in str(error).lower())


async def ensure_group(client: Redis, stream: str) -> None:
    """Make the stream's group if it is missing, from the first entry: jobs may be older than their first worker.

    An error is left to the next who needs the group.
    """
    try:
        await client.xgroup_create(stream, keys.GROUP, id="0", mkstream=True)
    except FAILURES as error:
        if "BUSYGROUP" not in str(error):
            log.debug("the group of %s cannot be made now: %s", stream, error)
    else:
        log.info("the group of %s was missing and is made", stream)


async def forget_dead_often(redis: Redis, stream: str) -> None:
    """Until cancelled: remove dead workers, so that a restarted one leaves nothing behind for ever."""
    while True:
        await asyncio.sleep(FORGET_EVERY)
        try:
            await forget_dead(redis, stream)
        except FAILURES as error:
            log.debug("dead workers cannot be removed now: %s", error)


async def forget_dead(redis: Redis, stream: str, within: float = worker_records.KEPT) -> None:
    """Remove workers that were not seen for ``within`` seconds: from the set, and as consumers with nothing pending.

    A worker that only slept makes its consumer again with its next read.
    """
    await worker_records.forget_dead(redis, within)
    alive = {record.name for record in await worker_records.living(redis, within)}
    consumers: list[Any] = await redis.xinfo_consumers(stream, keys.GROUP)
    for consumer in consumers:
        name = consumer["name"].decode()
        if not consumer["pending"] and name not in alive:
            await redis.eval(FORGET_CONSUMER, 1, stream, keys.GROUP, name)
