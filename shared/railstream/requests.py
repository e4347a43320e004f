"""The request's hash: its fields, who reads them, and the one way in which a request gets into the queue.

A request is queued in three steps: its hash, its job's entry, and in the hash the id of that entry. Whoever finds a
hash whose entry is nowhere in the queue knows that its job is lost.

==================  ==================================================================================
field               meaning
==================  ==================================================================================
``status``          ``queued``, ``running``, or the name of the terminal event
``kind``            of its job
``pool``            whose job stream holds its job
``enqueued``        entry id of its job; ``1`` while that is on its way, or of a release before it
``job``             entry id of the job that is run; a second entry of the request is dropped
``owner``           the worker that runs it
``attempt``         the latest
``run``             the provider's run that makes the answer; ``run:<index>`` that of one operation
``cancel``          the reason, once somebody has asked for a cancel
``error``           code of an end that a gateway wrote
``reopened``        ``<removed end> <event before it>`` of each retry after an end, separated by spaces
``readers``         all readers; ``readers:<gateway>`` those of one gateway
==================  ==================================================================================
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from railstream import events, keys
from railstream.events import Started
from railstream.ids import EventId, parse_event_id
from railstream.job import Job
from railstream.topology.repeating import RepeatableScript

TTL: Final = 24 * 3600
"""Seconds that a request's keys live when nobody ever ends it; the worker shortens it at the end."""
ENDED: Final = frozenset(name.decode() for name in events.TERMINAL)
MARK: Final = "enqueued"
ON_ITS_WAY: Final = "1"
DATA: Final = "__data__"
"""The field of a job stream's entry that holds the message."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the hash of one request holds. ``created`` in unix seconds."""

    id: str
    status: str
    tenant: str
    model: str
    created: int
    configs: tuple[str, ...]
    kind: str
    include_usage: bool
    traceparent: str
    cancel: str
    enqueued: bool = True
    """Whether its job is known to have reached the queue."""
    error: str = ""
    """Code of an end that a gateway wrote, since no worker would."""
    reopened: tuple[tuple[EventId, EventId], ...] = ()

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def started(self) -> Started:
        """What the stream's first event says, for a stream that has lost it."""
        return Started(self.id, self.model, self.created, self.configs, include_usage=self.include_usage)

    def describe(self) -> dict[str, Any]:
        """The status object: what is answered while there is no completion yet."""
        return {
            "id": self.id,
            "object": "chat.completion.status",
            "created": self.created,
            "model": self.model,
            "status": "cancelling" if self.cancel and not self.ended else self.status,
        }

    def position_after_retry(self, cursor: EventId) -> EventId:
        """Where a reader that has seen an end goes on, when that end was taken back by a retry."""
        for removed, before in self.reopened:
            if cursor.attempt == removed.attempt and cursor >= removed:
                return before
        return cursor


def now() -> float:
    """Unix seconds by this process's clock, as ids and hashes have them."""
    return time.time()


def decode(request_id: str, fields: Mapping[bytes, bytes]) -> Record | None:
    """``None`` when there is no such hash, or one without a status."""
    if b"status" not in fields:
        return None

    def text(name: bytes) -> str:
        return fields.get(name, b"").decode()

    ends = [parse_event_id(id) for id in text(b"reopened").split()]
    return Record(
        id=request_id,
        status=text(b"status"),
        tenant=text(b"tenant"),
        model=text(b"model"),
        created=int(float(text(b"created") or 0)),
        configs=tuple(msgspec.json.decode(fields.get(b"configs", b"[]"), type=list[str])),
        kind=text(b"kind") or "chat",
        include_usage=text(b"include_usage") == "1",
        traceparent=text(b"traceparent"),
        cancel=text(b"cancel"),
        enqueued=MARK.encode() in fields,
        error=text(b"error"),
        reopened=tuple(zip(ends[::2], ends[1::2], strict=False)),
    )


def encode(job: Job, *, pool: str, policy: str, gateway: str = "") -> dict[Any, Any]:
    """The fields of a queued request but ``status``. ``gateway``: the one that has its first reader, if any."""
    fields: dict[Any, Any] = {
        "kind": job.kind,
        "pool": pool,
        "model": job.model,
        "configs": msgspec.json.encode(job.configs),
        "tenant": job.tenant,
        "created": f"{job.created:.3f}",
        "stream": int(job.stream),
        "include_usage": int(job.include_usage),
        "on_disconnect": policy,
        "traceparent": job.traceparent,
    }
    return fields | ({"readers": 1, f"readers:{gateway}": 1} if gateway else {})


async def queue(redis: Redis, job: Job, message: bytes, *, pool: str, policy: str, gateway: str = "") -> str:
    """Queue a new request; returns its entry's id, empty when only the answer of Redis got lost.

    ``message`` holds the encoded job. A connection that breaks is tried once more, unless the hash shows that the job
    is in the queue already.

    Raises:
        redis.RedisError: Redis is down or refuses; the job may be queued all the same.
    """
    fields = encode(job, pool=pool, policy=policy, gateway=gateway)
    try:
        entry = await _send(redis, job.id, message, pool, fields)
    except (RedisConnectionError, RedisTimeoutError):
        if await redis.hexists(keys.request(job.id), MARK):
            return ""
        entry = await _send(redis, job.id, message, pool, fields)
    await redis.hset(keys.request(job.id), MARK, entry)
    return entry


async def _send(redis: Redis, request_id: str, message: bytes, pool: str, fields: dict[Any, Any]) -> str:
    key = keys.request(request_id)
    pipeline = redis.pipeline(transaction=False)
    pipeline.hsetnx(key, "status", "queued")
    pipeline.hset(key, mapping=fields)
    pipeline.expire(key, TTL)
    pipeline.xadd(keys.jobs(pool), {DATA: message})
    pipeline.hset(key, MARK, ON_ITS_WAY)
    entry: bytes = (await pipeline.execute())[3]
    return entry.decode()


_REOPEN: Final = RepeatableScript("""
-- KEYS events, request   ARGV ttl, field, value, ...
-- Takes back the failure of a request, so that its job can run again: 'reopened', or 'expired' when nothing was left
-- Otherwise its status, and nothing is done
local terminal = {finished = true, blocked = true, failed = true, cancelled = true}
local status = redis.call('HGET', KEYS[2], 'status')
local stuck = status == 'queued' and redis.call('HEXISTS', KEYS[2], 'enqueued') == 0
if status and status ~= 'failed' and not stuck then return status end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 2)
if #last > 0 then
  for i = 1, #last[1][2], 2 do
    if last[1][2][i] == 'event' and terminal[last[1][2][i + 1]] then
      local ends = redis.call('HGET', KEYS[2], 'reopened')
      local before = last[2] and last[2][1] or '0-0'
      local own = last[1][1] .. ' ' .. before
      redis.call('HSET', KEYS[2], 'reopened', ends and ends .. ' ' .. own or own)
      redis.call('XDEL', KEYS[1], last[1][1])
      -- Without a key there is nothing that a first attempt would have to follow
      if not last[2] then redis.call('DEL', KEYS[1]) end
    end
  end
end
redis.call('HDEL', KEYS[2], 'enqueued', 'job', 'owner', 'attempt', 'ended', 'cancel', 'error')
redis.call('HSET', KEYS[2], 'status', 'queued', unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[1])
return status and 'reopened' or 'expired'
""")


async def queue_again(redis: Redis, job: Job, message: bytes, *, pool: str) -> str:
    """Queue the job of a failed request under the same id: its readers find the new attempt where they stand.

    Returns ``reopened``, or ``expired`` when nothing of the request was left. Of a request that runs or has another end
    it returns the status, and nothing is done.
    """
    fields = encode(job, pool=pool, policy="continue")
    flat = [part for pair in fields.items() for part in pair]
    answer = (await redis.eval(_REOPEN, 2, keys.events(job.id), keys.request(job.id), TTL, *flat)).decode()
    if answer not in ("reopened", "expired"):
        return str(answer)
    entry = await redis.xadd(keys.jobs(pool), {DATA: message})
    await redis.hset(keys.request(job.id), MARK, entry)
    return str(answer)
