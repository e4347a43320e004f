"""What Redis knows of one request besides its events: the request hash, and the scripts that change it.

The scripts touch the keys of one request only, and decide and write in one step: a gateway never revives a hash
that has expired, and never ends a stream that a worker has begun.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

from railstream import keys, requests
from railstream.cancelling import READING, cancel
from railstream.errors import RequestNotFoundError
from railstream.ids import is_request_id
from railstream.requests import ENDED, Record
from railstream.topology.repeating import RepeatableScript
from redis.asyncio import Redis

__all__ = ["OPERATION_AGE", "Readers", "cancel", "count_reader", "load"]

OPERATION_AGE: Final = 60
"""Seconds that the token of a change of readers is known: a repeat after a broken connection comes at once."""

_READERS: Final = RepeatableScript(
    READING
    + """
-- KEYS request, token of this change   ARGV change, policy, gateway, seconds that the token is known
-- Returns {status, policy, gateway with readers, ...}; nothing when there is no such request
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'on_disconnect', ARGV[2]) end
local own = 'readers:' .. ARGV[3]
if ARGV[1] ~= '0' and redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[4]) then
  if redis.call('HINCRBY', KEYS[1], own, ARGV[1]) <= 0 then redis.call('HDEL', KEYS[1], own) end
  redis.call('HINCRBY', KEYS[1], 'readers', ARGV[1])
end
local told = redis.call('HMGET', KEYS[1], 'status', 'on_disconnect')
for _, name in ipairs(reading(KEYS[1])) do told[#told + 1] = name end
return told
"""
)


async def load(redis: Redis, request_id: str, tenant: str) -> Record:
    """Raises `RequestNotFoundError` alike for what is unknown, expired, and somebody else's."""
    fields: dict[Any, Any] = {}
    if is_request_id(request_id):
        fields = await redis.hgetall(keys.request(request_id))
    record = requests.decode(request_id, fields)
    if record is None or record.tenant != tenant:
        raise RequestNotFoundError(f"there is no request {request_id[:80]!r} here, or it has expired", param="id")
    return record


@dataclass(frozen=True, slots=True)
class Readers:
    """Who reads a request. ``gateways`` are those that have readers of it, as far as they have told."""

    gateways: tuple[str, ...] = ()
    running: bool = False
    policy: str = ""


async def count_reader(redis: Redis, request_id: str, gateway: str, change: int, policy: str = "") -> Readers:
    """Add to a gateway's readers of a request, and perhaps set its policy."""
    token = keys.change_of_readers(request_id, secrets.token_hex(8))
    given = (change, policy, gateway, OPERATION_AGE)
    answer = await redis.eval(_READERS, 2, keys.request(request_id), token, *given)
    if not answer:
        return Readers()
    status, kept, *gateways = answer
    running = status is not None and status.decode() not in ENDED
    return Readers(tuple(name.decode() for name in gateways), running, (kept or b"").decode())
