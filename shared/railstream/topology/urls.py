"""Whether a text is the URL of a Redis, before anything is connected; what is wrong with it is said in one line."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

FORMS: Final = "redis://HOST:PORT/DB, rediss://HOST:PORT/DB with TLS, or unix:///PATH?db=DB"
SCHEMES: Final = frozenset({"redis", "rediss", "unix"})


def check_redis_url(url: str) -> None:
    """Raises ``ValueError``, without the password: it is no URL of a Redis."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ValueError(f"it has no scheme; a Redis is named by {FORMS}")
    if scheme not in SCHEMES:
        raise ValueError(f"its scheme {scheme!r} is none of a Redis; one is named by {FORMS}")
    if scheme == "unix":
        return
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"its port is no number from 1 to 65535; a Redis is named by {FORMS}") from error
    if not parts.hostname or port == 0:
        raise ValueError(f"it names no {'port' if parts.hostname else 'host'}; a Redis is named by {FORMS}")
    database = parts.path.strip("/")
    if database and not database.isdecimal():
        raise ValueError(f"its database {database!r} is no number; a Redis is named by {FORMS}")
    _check_options(url)


def _check_options(url: str) -> None:
    """The query is redis-py's: its own connection says whether it knows the options."""
    from redis.asyncio import ConnectionPool

    try:
        pool = ConnectionPool.from_url(url, protocol=2)
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError) as error:
        raise ValueError(f"redis-py refuses its options: {error}") from error
