"""Whether Redis takes writes now, as this worker's renewals find out; whoever needs a write waits for that here.

A Redis without memory or disk, with too few replicas, or that is a replica itself, answers and refuses. It refuses
everybody, so nobody can take a claim meanwhile: such a time costs waiting, never a delivery.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from railstream import keys
from railstream.logs import Outage
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

log = logging.getLogger(__name__)

T = TypeVar("T")
REFUSALS: Final = ("OOM ", "READONLY", "MISCONF", "NOREPLICAS", "Not enough good replicas")
"""What a Redis says that takes no writes. A script's error has it somewhere in its text; redis-py strips some."""
OF_ALL: Final = (
    *("LOADING", "BUSY ", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED ", "ASK ", "EXECABORT", "NOAUTH", "NOPERM"),
    *REFUSALS,
)
"""Errors that say something of Redis, or of this worker's place in it, and nothing of the key."""
NO_ANSWER: Final = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)
TRIES: Final = 4
"""Failures of one call while Redis takes writes, past which the call itself is at fault."""
PAUSE: Final = 0.1
"""Seconds between two tries."""


def refuses(error: BaseException) -> bool:
    """Redis answered that it takes no writes now, from anybody."""
    if isinstance(error, OutOfMemoryError | ReadOnlyError):
        return True
    return isinstance(error, ResponseError) and any(refusal in str(error) for refusal in REFUSALS)


def is_outage(error: BaseException) -> bool:
    """The error is about Redis as a whole, not about this call: the same call may pass later."""
    return isinstance(error, NO_ANSWER) or refuses(error)


class Writing:
    """`found` and `lost` are called by the renewals; all others ask and wait."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._possible = asyncio.Event()
        self._possible.set()
        self._since = -math.inf
        self._outage = Outage(log, "writing to redis")

    def found(self) -> None:
        """A write passed."""
        if not self._possible.is_set():
            self._since = asyncio.get_running_loop().time()
            self._possible.set()
        self._outage.end()

    def lost(self, error: BaseException) -> None:
        """A write did not pass."""
        self._possible.clear()
        self._outage.begin(error)

    async def wait(self) -> None:
        """Until writes pass."""
        await self._possible.wait()

    async def wait_steady(self, seconds: float) -> None:
        """Until writes have passed for that long without an outage that this worker noticed."""
        loop = asyncio.get_running_loop()
        await self.wait()
        while (left := self._since + seconds - loop.time()) > 0:
            await asyncio.sleep(left)
            await self.wait()

    async def probe(self) -> bool:
        """Ask Redis now, with a write that changes nothing and is refused whenever another would be."""
        try:
            await self._redis.setrange(keys.NEVER, 0, "")
        except Exception as error:
            if not is_outage(error):
                raise
            self.lost(error)
            return False
        return True

    async def repeat(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of ``call``, which may safely run twice: waits while Redis is out, and asks again.

        A claim that is lost meanwhile cancels the attempt, and this wait with it.

        Raises:
            RedisError: what the call raises though Redis takes writes.
        """
        failures = 0
        while True:
            try:
                return await call()
            except Exception as error:
                if not is_outage(error):
                    raise
                if await self.probe():
                    failures += 1
                    if failures == TRIES:
                        raise
                    await asyncio.sleep(PAUSE)
                else:
                    await self.wait()
