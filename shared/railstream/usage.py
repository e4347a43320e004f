"""The usage ledger: tokens per day, model, key and task, counted in Redis in the step that writes the event.

A ``usage`` event and its counts are one script, so what the fence refuses is not counted, and what is sent twice
is counted once. Field of ``railstream:{pp}:usage:<day>``: ``<model>|<key>|<task>|<bucket>``, where ``%`` and ``|``
of a part are written ``%25`` and ``%7C``. The key is the digest of an API key, empty when none are configured.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from redis.asyncio import Redis

from railstream import events, keys, live_frame
from railstream.events import Usage
from railstream.ids import partition_of
from railstream.topology.repeating import RepeatableScript

KEEP_DAYS: Final = 90
DAY_SECONDS: Final = 24 * 3600

SCRIPT: Final = (
    live_frame.LUA
    + """
-- KEYS events, usage of the day   ARGV channel, id, data, seconds to keep, field prefix, bucket, count, ...
-- Returns 1, 0 when the fence refused it, or nil when the stream is gone
local added = redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', ARGV[2], 'event', 'usage', 'data', ARGV[3])
if type(added) == 'table' and added.err then
  if string.find(added.err, 'equal or smaller') then return 0 end
  return added
end
if not added then return false end
live(ARGV[1], ARGV[2], 'usage', ARGV[3])
for i = 6, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[2], ARGV[5] .. ARGV[i], ARGV[i + 1])
end
if redis.call('TTL', KEYS[2]) < 0 then redis.call('EXPIRE', KEYS[2], ARGV[4]) end
return 1
"""
)
CORRECT: Final = RepeatableScript("""
-- KEYS request, usage of the day   ARGV call, seconds to keep, field prefix, bucket, count, ...
-- Adds counts to those of a call that is recorded already, once. Returns 1, or 0 when that was done
if redis.call('HSETNX', KEYS[1], 'counted:' .. ARGV[1], 1) == 0 then return 0 end
for i = 4, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[2], ARGV[3] .. ARGV[i], ARGV[i + 1])
end
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
if redis.call('TTL', KEYS[2]) < 0 then redis.call('EXPIRE', KEYS[2], ARGV[2]) end
return 1
""")
SHA: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class Entry(NamedTuple):
    """Keys and arguments of `SCRIPT`; the caller puts the live channel and the entry id before ``args``."""

    keys: tuple[bytes, ...]
    args: tuple[bytes, ...]


class Account(NamedTuple):
    """Whose tokens."""

    model: str
    key: str
    task: str


@dataclass(slots=True)
class Totals:
    """Tokens, in inclusive buckets: input holds cached ones, output holds reasoning ones."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    calls: int = 0
    incomplete: int = 0
    """Calls that were cut before the provider's final figure."""
    uncounted: int = 0
    """Calls that the provider has not counted at all: `input` and `output` hold nothing of them."""
    estimated_input: int = 0
    estimated_output: int = 0
    """Our estimate of the uncounted calls."""

    def add(self, other: Totals) -> None:
        for bucket in BUCKETS:
            setattr(self, bucket, getattr(self, bucket) + getattr(other, bucket))


BUCKETS: Final = tuple(field.name for field in fields(Totals))


def entry(request_id: str, tenant: str, usage: Usage, *, day: str = "", keep_days: int = KEEP_DAYS) -> Entry:
    """What `SCRIPT` needs to record one call. ``day`` is today in UTC when it is not given."""
    counts = _counts(usage)
    args = [events.encode(usage)[1], b"%d" % (keep_days * DAY_SECONDS), _prefix(usage, tenant)]
    for bucket in BUCKETS:
        if count := getattr(counts, bucket):
            args += [bucket.encode(), b"%d" % count]
    ledger = keys.usage(partition_of(request_id), day or today())
    return Entry((keys.events(request_id).encode(), ledger.encode()), tuple(args))


async def correct(redis: Redis, request_id: str, tenant: str, before: Usage, after: Usage, *, day: str) -> None:
    """Put ``after`` in the place of ``before`` in the counts of that day, once, for a call that is recorded.

    Raises:
        redis.RedisError: it may be repeated.
    """
    old, new = _counts(before), _counts(after)
    changes = [(bucket, getattr(new, bucket) - getattr(old, bucket)) for bucket in BUCKETS]
    args = [part for bucket, change in changes if change for part in (bucket, change)]
    own = (keys.request(request_id), keys.usage(partition_of(request_id), day))
    await redis.eval(CORRECT, 2, *own, after.call, KEEP_DAYS * DAY_SECONDS, _prefix(after, tenant), *args)


def _prefix(usage: Usage, tenant: str) -> bytes:
    return "".join(f"{_quote(part)}|" for part in (usage.model, tenant, usage.task)).encode()


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def days_until(last: str, count: int) -> list[str]:
    """``count`` days, the last of which is ``last``."""
    end = datetime.fromisoformat(last).date()
    return [(end - timedelta(days=back)).isoformat() for back in reversed(range(count))]


async def read(redis: Redis, days: Sequence[str]) -> dict[Account, Totals]:
    """The totals of ``days`` over all partitions, one pipeline per day."""
    ledger: dict[Account, Totals] = {}
    async for field, count in _fields(redis, days):
        *parts, bucket = field.split("|")
        account = Account(*(_unquote(part) for part in parts))
        totals = ledger.setdefault(account, Totals())
        setattr(totals, bucket, getattr(totals, bucket) + count)
    return ledger


async def _fields(redis: Redis, days: Sequence[str]) -> AsyncIterator[tuple[str, int]]:
    for day in days:
        pipeline = redis.pipeline(transaction=False)
        for partition in keys.PARTITIONS:
            pipeline.hgetall(keys.usage(partition, day))
        for found in await pipeline.execute():
            for field, count in found.items():
                yield field.decode(), int(count)


def _counts(usage: Usage) -> Totals:
    return Totals(
        input=usage.input_tokens or 0,
        output=usage.output_tokens or 0,
        cached=usage.cached_input_tokens,
        cache_write=usage.cache_write_input_tokens,
        reasoning=usage.reasoning_tokens,
        calls=1,
        incomplete=0 if usage.complete else 1,
        uncounted=1 if usage.estimated_input_tokens is not None else 0,
        estimated_input=usage.estimated_input_tokens or 0,
        estimated_output=usage.estimated_output_tokens or 0,
    )


def _quote(part: str) -> str:
    return part.replace("%", "%25").replace("|", "%7C")


def _unquote(part: str) -> str:
    return part.replace("%7C", "|").replace("%25", "%")
