"""Requests and tokens per minute that all workers share, counted in one Redis hash per limit, by that Redis's clock.

The window slides in sixtieths, each of which counts until it is wholly outside. One script call gives a caller its
time; nothing is asked again while it waits.
"""

from __future__ import annotations

from typing import Any, Final

from railstream import keys
from railstream.topology.recovery import FAILURES
from railstream_engine.providers.quota import Booking, Limit, QuotaUnavailable
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

SLICES: Final = 60

RESERVE: Final = """
-- KEYS limit   ARGV requests, tokens (0: no limit), needed tokens, longest wait ms, slice ms
-- Hash: r:<slice>, t:<slice> and the time that was given last. Returns the slice, or -1, and how long to wait in ms
local requests, tokens, needed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local longest, width = tonumber(ARGV[4]), tonumber(ARGV[5])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local at, oldest = now, math.floor(now / width) - 60
local counts, old = {r = {}, t = {}}, {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] == 'last' then
    at = math.max(at, tonumber(all[i + 1]))
  else
    local slice = tonumber(string.sub(all[i], 3))
    if slice < oldest then old[#old + 1] = all[i]
    else counts[string.sub(all[i], 1, 1)][slice] = tonumber(all[i + 1]) end
  end
end
if #old > 0 then redis.call('HDEL', KEYS[1], unpack(old)) end
local function over(slice, count, limit, more)
  -- The first slice that must leave the window before there is room, or nil
  if limit == 0 then return nil end
  local sum, first = more, nil
  for s = slice - 60, slice do
    local c = count[s] or 0
    sum = sum + c
    if c > 0 and not first then first = s end
  end
  if sum > limit then return first end
end
if tokens > 0 then needed = math.min(needed, tokens) end
while at - now <= longest do
  local slice = math.floor(at / width)
  local first = over(slice, counts.r, requests, 1) or over(slice, counts.t, tokens, needed)
  if not first then
    redis.call('HINCRBY', KEYS[1], 'r:' .. slice, 1)
    redis.call('HINCRBY', KEYS[1], 't:' .. slice, needed)
    redis.call('HSET', KEYS[1], 'last', at)
    redis.call('PEXPIRE', KEYS[1], at - now + 62 * width)
    return {slice, at - now}
  end
  at = (first + 61) * width
end
return {-1, at - now}
"""
SETTLE: Final = """
-- KEYS limit   ARGV slice, requests, tokens to add
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[1], 'r:' .. ARGV[1], ARGV[2])
redis.call('HINCRBY', KEYS[1], 't:' .. ARGV[1], ARGV[3])
return 1
"""


class RedisQuota:
    """Shared by all workers on one Redis, by that Redis's clock. ``window`` in seconds."""

    def __init__(self, redis: Redis, *, window: float = 60) -> None:
        self._width = max(1, round(window * 1000 / SLICES))
        self._reserve = redis.register_script(RESERVE)
        self._settle = redis.register_script(SETTLE)

    async def reserve(self, limit: Limit, tokens: int, longest: float) -> Booking:
        args = [limit.requests, limit.tokens, tokens, round(longest * 1000), self._width]
        slice, wait = await self._ask(self._reserve, limit, args)
        return Booking(slice, wait / 1000, min(tokens, limit.tokens or tokens))

    async def settle(self, limit: Limit, booking: Booking, *, used: int | None) -> None:
        args = [booking.slice, -1 if used is None else 0, (used or 0) - booking.tokens]
        await self._ask(self._settle, limit, args)

    async def _ask(self, script: AsyncScript, limit: Limit, args: list[int]) -> Any:
        try:
            return await script(keys=[keys.limit(limit.name)], args=args)
        except FAILURES as error:
            raise QuotaUnavailable(str(error)) from error
