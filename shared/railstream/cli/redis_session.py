"""One client of Redis for one command, and one line on stderr for whatever goes wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from railstream.errors import RedisUnavailableError
from railstream.settings import Settings, redact_url
from railstream.topology.connect import connect
from railstream.topology.recovery import FAILURES

T = TypeVar("T")


def ask_redis(settings: Settings, name: str, action: Callable[[Redis], Awaitable[T]]) -> T:
    """The result of ``action``, given a client that is closed afterwards. ``name``: of the command, for CLIENT LIST.

    Raises:
        RedisUnavailableError: Redis does not answer, or refuses.
    """

    async def run() -> T:
        client = connect(settings.redis_url, settings.redis_timeout, name=f"railstream-{name}", pool_size=2)
        async with aclosing(client) as redis:
            return await action(redis)

    try:
        return asyncio.run(run())
    except FAILURES as error:
        raise RedisUnavailableError(explain(settings.redis_url, error)) from error


def explain(url: str, error: BaseException) -> str:
    """What is wrong with Redis, and what to do about it, in one line and without the password."""
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    where = f"Redis at {redact_url(url)!r}"
    if isinstance(error, AuthenticationError) or "NOAUTH" in reason or "WRONGPASS" in reason:
        return f"{where} refuses the password: {reason}; give the URL with it, redis://:PASSWORD@HOST:PORT/0"
    return f"{where} does not answer: {reason}; name a running one with --redis-url or RAILSTREAM_REDIS_URL"
