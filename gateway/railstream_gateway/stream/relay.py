"""Relay one request's stream to one reader, from any position, until it ends.

A stream ends exactly once, with its first terminal event. Events leave in order, each once, with no hole: whatever
the channel misses is read from the stream, and what the stream no longer holds is a `Gap`, never silence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from railstream import events, keys
from railstream.errors import StreamLostError
from railstream.events import Event, Restarted
from railstream.ids import START, EventId, parse_event_id
from railstream.live_frame import PLAIN
from railstream.requests import ENDED, MARK
from railstream.topology.recovery import FAILURES
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from railstream_gateway.stream.hub import Hub

log = logging.getLogger(__name__)

PAGE: Final = 128
"""Entries of one read of the stream."""
PATIENCE: Final = 5.0
"""Seconds of silence after which the stream is read: its worker may have died between append and publish."""
BEHIND: Final = 30.0
"""Seconds that a stream may be shorter than what was read of it: its worker writes the lost tail again."""
RETRY: Final = 0.25
"""Seconds before a read of the stream that failed is tried again."""
Check = Callable[[str, float | None, float], Awaitable[bool]]
"""Given a request id, for how many seconds its job has been missing from the queue (``None``: it is not), and how long
its stream has been silent, ends a request that cannot be answered any more, and returns true when it did."""


class Gap(StreamLostError):
    """Events after ``requested`` are gone. ``earliest`` and ``latest`` are what the stream holds, if anything."""

    def __init__(self, requested: EventId, earliest: EventId | None, latest: EventId | None) -> None:
        super().__init__(f"events after {requested} are lost: what follows cannot be shown without a hole")
        self.requested = requested
        self.earliest = earliest
        self.latest = latest

    @property
    def reason(self) -> str:
        """``lost`` (nothing is left, or less than was read), ``trimmed``, or ``restarted`` without what was read."""
        if self.latest is None or self.latest < self.requested:
            return "lost"
        return "trimmed" if self.earliest is not None and self.earliest > self.requested else "restarted"


class Relay:
    """`open` it, `read` until ``ended``, `close` it. ``cursor`` is the last event that left."""

    def __init__(
        self,
        redis: Redis,
        hub: Hub,
        request_id: str,
        *,
        after: EventId = START,
        limit: int,
        overflowed: Callable[[], None] = lambda: None,
        check: Check | None = None,
    ) -> None:
        """``limit``: bytes that may wait for a reader that does not take them; past it, ``overflowed`` is called.
        ``check`` is called in silence.
        """
        self.request_id = request_id
        self.cursor = after
        self.ended = False
        self.terminal: Event | None = None
        """The event that the stream ended with, once it was read."""
        self.lane: Callable[[bytes, bytes], bool] | None = None
        """Takes id and delta of the next chunk at once while the reader waits, unwoken; false when it cannot."""
        self._redis = redis
        self._hub = hub
        self._limit = limit
        self.overflowed = overflowed
        self._check = check
        self._inbox: list[Event] = []
        self._inbox_bytes = 0
        self._stale = False
        self._woken = False
        self._started: bytes | None = None
        self._behind_since: float | None = None
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._passed = 0.0
        self._spoke = self._heard
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0

    async def open(self, *, new: bool = False) -> None:
        """``new``: nobody can have written yet, so there is nothing to read before the first event arrives."""
        await self._hub.subscribe(self.request_id, self)
        self._heard = self._loop.time()
        self._stale = not new

    def close(self) -> None:
        self._hub.unsubscribe(self.request_id, self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def passes(self, payload: bytes) -> bool:
        lane, waiter = self.lane, self._waiter
        if lane is None or waiter is None or waiter.done() or self._inbox or self._stale:
            return False
        attempt, seq = self.cursor
        position = b"%d-%d" % (attempt, seq + 1)
        head = position + PLAIN
        if not payload.startswith(head) or not lane(position, payload[len(head) :]):
            return False
        self.cursor = EventId(attempt, seq + 1)
        self._heard = self._passed = self._loop.time()
        return True

    def deliver(self, event: Event) -> None:
        self._inbox.append(event)
        self._inbox_bytes += len(event.data)
        if self._inbox_bytes > self._limit:
            self._inbox.clear()
            self._inbox_bytes = 0
            self._stale = True
            self.overflowed()
        self._resume()

    def resync(self) -> None:
        self._stale = True
        self._resume()

    def wake(self) -> None:
        """Make `read` return with what there is."""
        self._woken = True
        self._resume()

    async def read(self, timeout: float) -> list[Event]:
        """The next events; none after ``timeout`` seconds of silence, or when woken.

        Raises:
            Gap: what should come next is lost.
        """
        until = self._loop.time() + timeout
        while True:
            if self._stale and self._woken:
                self._woken = False
                return []
            batch = await self._backfill() if self._stale else self._take()
            now = self._loop.time()
            until = max(until, self._passed + timeout)
            if batch:
                self._heard = self._spoke = now
            if batch or self._woken or self.ended or now >= until:
                self._woken = False
                return batch
            if not self._stale:
                await self._wait(min(until, self._heard + PATIENCE))

    async def _wait(self, deadline: float) -> None:
        """Until something arrives. Silence since the last look makes the reader look into the stream."""
        self._deadline = deadline
        if self._timer is None or self._timer.when() > deadline:
            self._arm()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if not self._inbox and self._loop.time() >= self._heard + PATIENCE:
            self._stale = True

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        """One timer for many waits: it is set anew only when it rings too early, not for every event."""
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._deadline:
            self._arm()
        else:
            self._resume()

    def _resume(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self) -> list[Event]:
        """What the channel brought, as far as it continues what left before."""
        if not self._inbox:
            return self._inbox
        inbox, self._inbox, self._inbox_bytes = self._inbox, [], 0
        return self._advance(inbox)

    def _advance(self, found: Iterable[Event], *, stored: bool = False) -> list[Event]:
        """What of ``found`` continues what left before; a hole makes the reader look into the stream.

        ``stored``: it was read from the stream, where nothing can stand between the cursor and the first of it.
        """
        batch: list[Event] = []
        for event in found:
            if event.id <= self.cursor:
                self._compare(event)
                continue
            if not self._follows(event) and not (stored and self._fails(event)):
                self._stale = True
                break
            self.cursor = event.id
            batch.append(event)
            if event.name in events.TERMINAL:
                self.ended, self.terminal = True, event
                break
            if event.name == events.STARTED:
                self._started = event.data
        return batch

    def _follows(self, event: Event) -> bool:
        attempt, seq = event.id
        if attempt == self.cursor.attempt:
            return seq == self.cursor.seq + 1
        if self.cursor == START:
            # After a failover an attempt that nobody has heard of may open with a higher number.
            return seq == 0 and event.name == events.STARTED
        if event.name != events.RESTARTED:
            return False
        restarted = events.decode(event)
        return isinstance(restarted, Restarted) and restarted.after == str(self.cursor)

    def _fails(self, event: Event) -> bool:
        """Whether it is the only event of an attempt, which failed: who ends a request that nobody runs writes it."""
        return event.name == events.FAILED and event.id.seq == 0

    def _compare(self, event: Event) -> None:
        """A stream that starts again with another event is another stream under the same ids."""
        if event.name == events.STARTED and self._started is not None and event.data != self._started:
            raise Gap(self.cursor, event.id, None)

    async def _backfill(self) -> list[Event]:
        try:
            page = await self._page()
            self._stale = len(page) == PAGE
            self._heard = self._loop.time()
            batch = self._advance(page, stored=True)
            if batch:
                self._behind_since = None
                return batch
            await self._look(missing=bool(page))
        except FAILURES as error:
            log.debug("the stream of %s cannot be read now: %s", self.request_id, error)
            await self._wait(self._loop.time() + RETRY)
            self._stale = True
        return []

    async def _page(self) -> list[Event]:
        found = self._redis.xrange(keys.events(self.request_id), min=f"({self.cursor}", count=PAGE)
        return to_events(await self._of_own_keys(found))

    async def _of_own_keys(self, reading: Awaitable[Any]) -> Any:
        """What is read of the request's own keys. Raises `Gap` where one has another type: no repeat mends that."""
        try:
            return await reading
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            raise Gap(self.cursor, None, None) from error

    async def _look(self, *, missing: bool) -> None:
        """Nothing follows the cursor: is that right? ``missing``: something does, but not the next event."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.xrange(keys.events(self.request_id), count=1)
        pipeline.xrevrange(keys.events(self.request_id), count=1)
        pipeline.hmget(keys.request(self.request_id), "status", MARK)
        head, tail, (status, enqueued) = await self._of_own_keys(pipeline.execute())
        gap = Gap(self.cursor, _id_of(head), _id_of(tail))
        if missing or status is None:
            raise gap
        if gap.latest is not None and gap.latest > self.cursor:
            self._stale = True  # it has grown since
            return
        ended = status.decode() in ENDED
        if gap.latest != self.cursor and ended:
            raise gap
        forgotten = status == b"queued" and not enqueued  # Redis kept the request and lost its job
        if not ended and not forgotten and (gap.latest == self.cursor or self.cursor == START):
            self._behind_since = None
            await self._look_for_job(None)
            return
        now = self._loop.time()
        self._behind_since = self._behind_since or now
        behind = now - self._behind_since
        if forgotten and behind > PATIENCE:
            await self._look_for_job(behind)
        elif behind > BEHIND:
            raise gap

    def _silence(self) -> float:
        """Seconds since the latest event."""
        return self._loop.time() - max(self._passed, self._spoke)

    async def _look_for_job(self, missing: float | None) -> None:
        if self._check is not None and await self._check(self.request_id, missing, self._silence()):
            self._stale = True


def _id_of(entries: Any) -> EventId | None:
    return parse_event_id(entries[0][0]) if entries else None


def to_events(entries: Any) -> list[Event]:
    """Entries of the stream, as redis-py reads them."""
    return [
        Event(parse_event_id(entry_id), fields[b"event"], fields[b"data"], fields.get(b"choice", b""))
        for entry_id, fields in entries
    ]
