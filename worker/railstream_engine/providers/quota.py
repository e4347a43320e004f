"""Requests and tokens per minute: each call is given its time at once, in the order of asking, and sleeps until then.

Nobody polls and nobody is woken: who asks later is given a later time. In any 60 seconds no more start than the limit
says. Tokens are booked by an estimate, which the real usage replaces.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Limit:
    """0: no limit. ``name``: who shares it."""

    name: str
    requests: int = 0
    tokens: int = 0


class Booking(NamedTuple):
    """``slice`` is -1 when nothing was booked, because the wait would have been ``wait`` seconds."""

    slice: int
    wait: float
    tokens: int


class QuotaUnavailable(Exception):
    """Where the limits are counted cannot be asked."""


class Quota(Protocol):
    """Raises `QuotaUnavailable`."""

    async def reserve(self, limit: Limit, tokens: int, longest: float) -> Booking:
        """A place in the window, not later than ``longest`` seconds from now."""
        ...

    async def settle(self, limit: Limit, booking: Booking, *, used: int | None) -> None:
        """The tokens that it really came to; ``None``: the call was not made, its place is free."""
        ...


class ProcessQuota:
    """Of one process, for programs that have no Redis."""

    def __init__(self, *, window: float = 60) -> None:
        self._window = window
        self._booked: dict[str, deque[list[float]]] = {}
        """By limit: ``[time, requests, tokens, number]``, in order."""
        self._numbers = count()

    async def reserve(self, limit: Limit, tokens: int, longest: float) -> Booking:
        now = time.monotonic()
        booked = self._booked.setdefault(limit.name, deque())
        while booked and booked[0][0] <= now - self._window:
            booked.popleft()
        needed = min(tokens, limit.tokens or tokens)
        at = max(now, booked[-1][0] if booked else now)
        while at - now <= longest:
            first = self._over(limit, booked, at, needed)
            if first is None:
                number = next(self._numbers)
                booked.append([at, 1, needed, number])
                return Booking(number, at - now, needed)
            at = max(at, first + self._window)
        return Booking(-1, at - now, needed)

    def _over(self, limit: Limit, booked: deque[list[float]], at: float, needed: int) -> float | None:
        inside = [place for place in booked if place[0] > at - self._window]
        requests, tokens = sum(place[1] for place in inside), sum(place[2] for place in inside)
        if (limit.requests and requests + 1 > limit.requests) or (limit.tokens and tokens + needed > limit.tokens):
            return next((place[0] for place in inside if place[1] or place[2]), None)
        return None

    async def settle(self, limit: Limit, booking: Booking, *, used: int | None) -> None:
        for place in self._booked.get(limit.name, ()):
            if place[3] == booking.slice:
                place[1:3] = (0, 0) if used is None else (place[1], used)
