"""One raw connection to Redis for a hot path: redis-py opens it, hiredis parses it, we write the bytes.

redis-py does what is not ours to write (URL, AUTH, TLS, SELECT, unix sockets); past that its per-command cost
is most of a token's, so the publisher and the relay speak RESP themselves. A link is used by one owner and is
not reconnected: when `read` raises, its owner opens another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from railstream.connect import cancellable

READ_SIZE = 256 * 1024


def pack(*args: bytes) -> bytes:
    """One command in RESP."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        parts.append(b"$%d\r\n%b\r\n" % (len(arg), arg))
    return b"".join(parts)


class Link:
    """A connected, authenticated socket. Replies are ``bytes``, ``int``, ``None``, lists, or ``hiredis.ReplyError``."""

    def __init__(self, connection: AbstractConnection) -> None:
        assert connection._reader is not None
        assert connection._writer is not None
        self._connection = connection
        self._reader = connection._reader
        self._writer = connection._writer
        self._parser = hiredis.Reader()

    @classmethod
    async def open(cls, url: str, timeout: float, name: str) -> Link:
        """Connect within ``timeout`` seconds. ``name`` is the client's name in CLIENT LIST.

        Raises:
            redis.RedisError: unreachable, refused, or the credentials are wrong.
        """
        pool = ConnectionPool.from_url(
            url,
            protocol=2,
            client_name=name,
            socket_connect_timeout=timeout,
            socket_timeout=timeout,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )
        connection: AbstractConnection = cancellable(pool).make_connection()
        await connection.connect()
        return cls(connection)

    def write(self, commands: Iterable[bytes]) -> None:
        """Queue packed commands on the socket; raises ``ConnectionError`` when it is closing."""
        if self._writer.is_closing():
            raise RedisConnectionError("the connection to Redis is closed")
        self._writer.writelines(commands)

    async def drain(self) -> None:
        """Wait until the socket's buffer is below its high-water mark."""
        await self._writer.drain()

    async def read(self) -> Iterator[Any]:
        """Whatever replies the next bytes complete, perhaps none. Raises ``ConnectionError`` at its end."""
        data = await self._reader.read(READ_SIZE)
        if not data:
            raise RedisConnectionError("Redis closed the connection")
        self._parser.feed(data)
        return self._replies()

    def _replies(self) -> Iterator[Any]:
        while (reply := self._parser.gets()) is not False:
            yield reply

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)
