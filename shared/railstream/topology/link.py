"""One raw connection to Redis for a hot path: redis-py opens it, hiredis parses it, we write the bytes.

redis-py does what is not ours to write (URL, AUTH, TLS, SELECT, unix sockets); past that its per-command cost
is most of a token's, so the publisher and the relay speak RESP themselves. A link is used by one owner and is
not reconnected: when reading raises, its owner opens another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from railstream.topology.connect import cancellable, of_tcp
from railstream.topology.recovery import FAILURES, Recovery


def pack(*args: bytes) -> bytes:
    """One command in RESP."""
    command: bytes = hiredis.pack_command(args)  # type: ignore[arg-type]  # its stub means a tuple of one
    return command


async def keep_link(
    connect: Callable[[], Awaitable[Link]],
    serve: Callable[[Link, Recovery], Awaitable[None]],
    disconnected: Callable[[], None],
    recovery: Recovery,
) -> None:
    """Until cancelled: connect, serve, and connect again whenever that ends.

    Args:
        connect: opens a link.
        serve: uses it until it breaks, which raises; calls ``recovery.succeeded`` as soon as the link works.
        disconnected: called before a link is closed, however it ended.
    """
    while True:
        try:
            link = await connect()
            try:
                await serve(link, recovery)
            finally:
                disconnected()
                await link.close()
        except FAILURES as error:
            await recovery.failed(error)


class Link(asyncio.Protocol):
    """A connected, authenticated socket. Replies are ``bytes``, ``int``, ``None``, lists, or ``hiredis.ReplyError``."""

    def __init__(self, connection: AbstractConnection) -> None:
        assert connection._writer is not None
        self._connection = connection
        self._transport: Any = connection._writer.transport
        self._parser = hiredis.Reader()
        self._take: Callable[[Iterator[Any]], None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._transport.set_protocol(self)
        if self._transport.is_closing():  # its end was told to the protocol before this one
            self._error = RedisConnectionError("Redis closed the connection as it was opened")

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
            **of_tcp(url),
            retry=Retry(NoBackoff(), 0),
        )
        connection: AbstractConnection = cancellable(pool).make_connection()
        await connection.connect()
        return cls(connection)

    def write(self, commands: bytes) -> None:
        """Queue packed commands on the socket; raises ``ConnectionError`` when it is closing."""
        if self._transport.is_closing():
            raise RedisConnectionError("the connection to Redis is closed")
        self._transport.write(commands)

    async def read(self) -> list[Any]:
        """The replies that have come, at least one. Raises ``ConnectionError`` at the connection's end."""
        while not (replies := list(self._replies())):
            await self._wait()
        return replies

    async def serve(self, take: Callable[[Iterator[Any]], None]) -> None:
        """Hand over replies as they come, without waking a task for them, until the connection ends, which raises.

        So does what ``take`` raises: it is given nothing after that.
        """
        self._take = take
        try:
            take(self._replies())
            while True:
                await self._wait()
        finally:
            self._take = None

    async def _wait(self) -> None:
        """Until something comes that nobody takes. Raises what ended the connection."""
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _replies(self) -> Iterator[Any]:
        while (reply := self._parser.gets()) is not False:
            yield reply

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)

    # what the event loop calls

    def data_received(self, data: bytes) -> None:
        if self._error is not None:
            return
        try:
            self._parser.feed(data)
            if self._take is None:
                self._wake()
            else:
                self._take(self._replies())
        except Exception as error:
            self._end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(RedisConnectionError(str(exc) if exc is not None else "Redis closed the connection"))

    def _end(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
