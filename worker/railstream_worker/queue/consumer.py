"""How jobs reach this worker: two FastStream subscribers that read only when there is a slot to run what they read.

FastStream's own read loops prefetch one job beyond what runs, stop for good when the group is gone, and spin
without a pause on READONLY. These take a slot first, make the group again, and wait before they try again. While Redis
takes no writes they take no job: it could not be run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from faststream import AckPolicy
from faststream.redis import RedisBroker, RedisStreamMessage, StreamSub
from faststream.redis.message import DefaultStreamMessage
from faststream.redis.subscriber.usecases.stream_subscriber import StreamSubscriber
from railstream import keys, services
from railstream.requests import DATA
from redis.asyncio import Redis
from redis.exceptions import RedisError

from railstream_worker.queue.group import ensure_group, is_missing
from railstream_worker.queue.leases import Leases
from railstream_worker.queue.slots import Slots

log = logging.getLogger(__name__)

BLOCK_MS = 500
"""A blocking read holds a slot for this long at most, so that the scan gets its turn when one is left."""
BACKOFF = (0.1, 0.2, 0.5, 1.0)
"""Seconds before another try after an error; the last one repeats."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An entry of the job stream as it was read. ``deliveries`` counts this one; ``claimed_at``: monotonic seconds."""

    entry: bytes
    deliveries: int
    claimed_at: float
    body: bytes
    headers: dict[str, str]
    message_id: str = ""
    """The message's own: the request's id, when a gateway has sent it."""


Handler = Callable[[Arrival], Awaitable[None]]


class JobSubscriber(StreamSubscriber):
    """Reads one job at a time, and only with a slot in hand; the handler gives the slot back when the job is over."""

    slots: Slots
    leases: Leases
    redis: Redis
    stream: str
    consumer: str
    scan: float
    lease_ms: int
    handler: Handler
    failures: int = 0
    handed_over: bool = False

    async def start(self) -> None:
        """FastStream's own start ends the process when Redis fails in that very moment, or is slow: this one waits."""
        while True:
            try:
                return await super().start()
            except TimeoutError:
                return  # the reading task exists, and goes on
            except (RedisError, OSError) as error:
                log.warning("jobs cannot be subscribed to: %s", error)
                await asyncio.sleep(BACKOFF[-1])

    async def _consume(self, *args: Any, start_signal: Any) -> None:
        """FastStream's own loop ends for good when something inside it is cancelled."""
        start_signal.set()
        await services.keep(f"reading jobs of {self.stream}", self._read_always)

    async def _read_always(self) -> None:
        while True:
            await self._get_msgs(None)

    async def _get_msgs(self, read: Any) -> None:
        await self._may_take()
        await self.slots.take()
        asked = time.monotonic()
        try:
            entry = await self._next_entry()
        except (RedisError, OSError, TimeoutError) as error:
            self.slots.give_back()
            return await self._after_error(error)
        except BaseException:
            self.slots.give_back()
            raise
        if self.failures:
            log.info("jobs are read again")
            self.failures = 0
        if entry is None:
            self.slots.give_back()
            await self._rest()
        else:
            self.leases.arrived(entry[0], entry[2])
            await self._dispatch(*entry, asked)

    async def _dispatch(self, entry_id: bytes, fields: dict[bytes, bytes], deliveries: int, asked: float) -> None:
        """Give the entry to the handler, and its slot with it."""
        self.handed_over = False
        message = DefaultStreamMessage(
            type="stream",
            channel=self.stream,
            message_ids=[entry_id],
            data=fields,
            delivery_counts=[deliveries - 1],
        )
        # A process that was frozen meanwhile must see that the claim it got is old.
        message["claimed_at"] = asked  # type: ignore[typeddict-unknown-key]
        await self.consume_one(message)
        if not self.handed_over and self.running:  # FastStream logs what it cannot parse, and calls nobody
            await self.handler(Arrival(entry_id, deliveries, asked, fields.get(DATA.encode(), b""), {}))

    async def _may_take(self) -> None:
        """Until a job that is taken can be run."""
        await self.leases.writing.wait()

    async def _next_entry(self) -> tuple[bytes, dict[bytes, bytes], int] | None:
        raise NotImplementedError

    async def _rest(self) -> None:
        """Nothing was there."""

    async def _after_error(self, error: BaseException) -> None:
        if is_missing(error):
            await ensure_group(self.redis, self.stream)
        if not self.failures:
            log.warning("jobs cannot be read: %s", error)
        await asyncio.sleep(BACKOFF[min(self.failures, len(BACKOFF) - 1)])
        self.failures += 1


class NewJobs(JobSubscriber):
    """Jobs that no worker has seen, by a blocking read."""

    async def _next_entry(self) -> tuple[bytes, dict[bytes, bytes], int] | None:
        answer: Any = await self.redis.xreadgroup(
            keys.GROUP, self.consumer, {self.stream: ">"}, count=1, block=BLOCK_MS
        )
        if not answer:
            return None
        entry_id, fields = answer[0][1][0]
        return entry_id, fields, 1


class ExpiredJobs(JobSubscriber):
    """Jobs whose worker has not renewed its claim for the lease. One look per scan, over the whole list."""

    async def _may_take(self) -> None:
        """After an outage of Redis, workers that live need a moment to renew their claims, or to hand them back."""
        await self.leases.writing.wait_steady(self.lease_ms / 2000)

    async def _next_entry(self) -> tuple[bytes, dict[bytes, bytes], int] | None:
        pending: Any = await self.redis.xpending_range(self.stream, keys.GROUP, "-", "+", 1, idle=self.lease_ms)
        if not pending:
            return None
        if not await self.leases.writing.probe():  # a Redis without memory would let us claim what we could not run
            return None
        entry_id, deliveries = pending[0]["message_id"], pending[0]["times_delivered"]
        claimed: Any = await self.redis.xclaim(self.stream, keys.GROUP, self.consumer, self.lease_ms, [entry_id])
        if not claimed:
            return None  # another worker was quicker, or the entry is deleted
        found, fields = claimed[0]
        if fields is None:
            await self.redis.xack(self.stream, keys.GROUP, found)
            return None
        return found, fields, deliveries + 1

    async def _rest(self) -> None:
        await asyncio.sleep(self.scan)


async def _arrival(message: RedisStreamMessage) -> Arrival:
    """What the handler gets: more than the body, which it decodes itself; not the message, which would keep itself."""
    raw: Any = message.raw_message
    deliveries = raw.get("delivery_counts", [0])[0] + 1
    claimed_at = raw.get("claimed_at", time.monotonic())
    return Arrival(
        raw["message_ids"][0], deliveries, claimed_at, message.body, dict(message.headers), message.correlation_id or ""
    )


def subscribe(
    broker: RedisBroker,
    redis: Redis,
    slots: Slots,
    leases: Leases,
    handler: Handler,
    *,
    pool: str,
    worker: str,
    lease: float,
    scan: float,
) -> None:
    """Register both subscribers of the pool's job stream on the broker."""
    for kind, idle in ((NewJobs, None), (ExpiredJobs, int(lease * 1000))):
        subscriber = broker.subscriber(
            stream=StreamSub(keys.jobs(pool), group=keys.GROUP, consumer=worker, max_records=1, min_idle_time=idle),
            decoder=_arrival,
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
        )
        # FastStream makes the subscriber and offers no way to name its class; the layouts are the same.
        subscriber.__class__ = kind
        assert isinstance(subscriber, JobSubscriber)
        subscriber.slots = slots
        subscriber.leases = leases
        subscriber.redis = redis
        subscriber.stream = keys.jobs(pool)
        subscriber.consumer = worker
        subscriber.scan = scan
        subscriber.lease_ms = int(lease * 1000)
        subscriber.handler = handler
        subscriber(_handing_over(subscriber, handler))


def _handing_over(subscriber: JobSubscriber, handler: Handler) -> Handler:
    """The handler; the subscriber is told that it was called."""

    async def hand_over(arrival: Arrival) -> None:
        subscriber.handed_over = True
        await handler(arrival)

    return hand_over
