"""Notice that a request's job is lost or waits too long, and end the request: nobody waits for what cannot come.

The request's hash is compared with the queue. A job is lost when its entry is gone from the job stream, or was
acknowledged, and no living worker holds it. The end is written in one step, and only if the request is still as it
was when it was looked at: of two gateways one writes it, and a worker that begins meanwhile keeps its stream.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from railstream import events, keys, live_frame, worker_records
from railstream.errors import JobLostError, QueueTimeoutError, RailstreamError
from railstream.events import Failed
from railstream.requests import MARK, ON_ITS_WAY
from railstream.topology.repeating import RepeatableScript
from railstream.worker_records import SEEN_WITHIN
from redis.asyncio import Redis
from redis.exceptions import ResponseError

log = logging.getLogger(__name__)

FIELDS: Final = ("status", "job", MARK, "attempt", "owner", "pool", "created")
UNMARKED: Final = 60.0
"""Seconds after which a request without an entry in the queue is taken for lost where no reader has waited for it."""

_FIND: Final = RepeatableScript("""
-- KEYS jobs   ARGV group, entry or ''
-- Returns {now in ms, in the stream, pending consumer or '', ms without renewal, delivered to anybody}
-- A group that is gone is made again, from the first job on.
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local groups = redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XINFO', 'GROUPS', KEYS[1]) or {}
local last
for _, group in ipairs(groups) do
  local field = {}
  for i = 1, #group, 2 do field[group[i]] = group[i + 1] end
  if field['name'] == ARGV[1] then last = field['last-delivered-id'] end
end
if not last then
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
  last = '0-0'
end
if ARGV[2] == '' then return {ms, 0, '', 0, 0} end
local there = #redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
local function parts(id)
  local a, b = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(a), tonumber(b)
end
local a, b = parts(ARGV[2])
local c, d = parts(last)
local delivered = (a < c or (a == c and b <= d)) and 1 or 0
if #pending == 0 then return {ms, there, '', 0, delivered} end
return {ms, there, pending[1][2], pending[1][3], 1}
""")

_END: Final = RepeatableScript(
    live_frame.LUA
    + """
-- KEYS events, request   ARGV live channel, data of failed, now, retention, status, job, enqueued, attempt, error code
-- Ends a request that is still as it was seen, above everything that was written. Returns 1 when it did
local names = {'status', 'job', 'enqueued', 'attempt'}
local seen = redis.call('HMGET', KEYS[2], unpack(names))
for i = 1, 4 do
  if (seen[i] or '') ~= ARGV[4 + i] then return 0 end
end
local terminal = {finished = true, blocked = true, failed = true, cancelled = true}
local function append(id, event, data)
  redis.call('XADD', KEYS[1], id, 'event', event, 'data', data)
  live(ARGV[1], id, event, data)
end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if #last > 0 then
  for i = 1, #last[1][2], 2 do
    if last[1][2][i] == 'event' and terminal[last[1][2][i + 1]] then return 0 end
  end
  local attempt = tonumber(string.match(last[1][1], '^(%d+)-')) + 1
  append(attempt .. '-0', 'restarted', cjson.encode({attempt = attempt, after = last[1][1], reason = 'job_lost'}))
  append(attempt .. '-1', 'failed', ARGV[2])
elseif redis.call('EXISTS', KEYS[1]) == 1 or ARGV[8] ~= '' then
  local above = tonumber(ARGV[8] ~= '' and ARGV[8] or '0')
  if redis.call('EXISTS', KEYS[1]) == 1 then
    local about = redis.call('XINFO', 'STREAM', KEYS[1])
    for i = 1, #about, 2 do
      if about[i] == 'last-generated-id' then
        above = math.max(above, tonumber(string.match(about[i + 1], '^(%d+)-')))
      end
    end
  end
  append((above + 1) .. '-0', 'failed', ARGV[2])
else
  append('0-1', 'failed', ARGV[2])
end
redis.call('HSET', KEYS[2], 'status', 'failed', 'ended', ARGV[3], 'error', ARGV[9])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 1
"""
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job is in its queue, by Redis's clock. ``holder``: the worker that it is pending for."""

    now: float
    in_stream: bool
    holder: str
    idle: float
    delivered: bool

    @classmethod
    def read(cls, answer: Sequence[Any]) -> Place:
        now, in_stream, holder, idle, delivered = answer
        return cls(now / 1000, bool(in_stream), holder.decode(), idle / 1000, bool(delivered))


class JobWatch:
    """``queue_timeout`` and ``retention`` in seconds."""

    def __init__(self, redis: Redis, *, queue_timeout: float, retention: float) -> None:
        self._redis = redis
        self._queue_timeout = queue_timeout
        self._retention = retention
        self._refused_at = -math.inf

    async def check(self, request_id: str, unmarked_for: float | None = None, silent: float = 0) -> bool:
        """End a request that cannot be answered any more. True when it is ended, by whomever.

        ``unmarked_for``: seconds that a reader has seen it without an entry in the queue. ``silent``: seconds since its
        reader was given an event.
        """
        found: list[Any] = await self._redis.hmget(keys.request(request_id), FIELDS)
        status, job, mark, attempt, owner, pool, created = (value.decode() if value else "" for value in found)
        if status not in ("queued", "running") or found[5] is None:
            return False  # it has ended, or a release queued it that kept no pool
        entry = job or (mark if mark != ON_ITS_WAY else "")
        place = Place.read(await self._redis.eval(_FIND, 1, keys.jobs(pool), keys.GROUP, entry))
        if job and (place.idle > SEEN_WITHIN or not place.in_stream) and not await self._takes_writes_steadily():
            return False  # its worker could not renew its claim, and lives perhaps
        error: RailstreamError | None
        if not mark and not job:
            waited = place.now - float(created or 0) if unmarked_for is None else unmarked_for
            error = lost(request_id) if waited > (UNMARKED if unmarked_for is None else 0) else None
        else:
            since = float(created or 0)
            error = await self._verdict(request_id, place, entry, owner, since, silent, running=bool(job))
        if error is None:
            return False
        return await self._end(request_id, error, (status, job, mark, attempt))

    async def _verdict(
        self, request_id: str, place: Place, entry: str, owner: str, created: float, silent: float, *, running: bool
    ) -> RailstreamError | None:
        queued_at = int(entry.partition("-")[0]) / 1000 if entry else created
        waited = place.idle if place.holder else place.now - queued_at
        too_long = too_late(request_id, waited) if waited > self._queue_timeout else None
        if not entry:
            return too_long
        if place.in_stream and (place.holder or not place.delivered):
            if running and not place.holder and await worker_records.runs(self._redis, owner, entry):
                return None  # its group was made again: another worker will be given it, or it ends by itself
            return too_long
        if silent <= self._queue_timeout and await worker_records.runs(self._redis, place.holder or owner, entry):
            return None
        return lost(request_id)

    async def _takes_writes_steadily(self) -> bool:
        """Whether Redis has taken writes for long enough for living workers to renew their claims and records."""
        try:
            await self._redis.setrange(keys.NEVER, 0, "")
        except ResponseError as error:
            log.debug("redis takes no writes, so claims that are not renewed say nothing: %s", error)
            self._refused_at = time.monotonic()
        return time.monotonic() - self._refused_at > SEEN_WITHIN

    async def _end(self, request_id: str, error: RailstreamError, seen: Sequence[str]) -> bool:
        failed = Failed(error=error.envelope(), status=error.status, retryable=True, retry_after=1)
        _, data = events.encode(failed)
        times = (f"{time.time():.3f}", max(1, round(self._retention)))
        own = (keys.events(request_id), keys.request(request_id), keys.live(request_id))
        ended = await self._redis.eval(_END, 2, *own, data, *times, *seen, error.code)
        if ended:
            log.warning("request %s: %s", request_id, error)
        return bool(ended)


def lost(request_id: str) -> JobLostError:
    return JobLostError(f"the job of {request_id} is gone from the queue and no worker runs it; send the request again")


def too_late(request_id: str, waited: float) -> QueueTimeoutError:
    return QueueTimeoutError(f"{request_id} waited for a worker for {waited:.0f} s and got none: try again later")
