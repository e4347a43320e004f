"""Clients of Redis for everything that is not the token path: commands with bounded waits."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from railstream.topology.repeating import RepeatingRedis

Pool = TypeVar("Pool", bound=ConnectionPool)


class _Sending:
    """A connection whose send loses no cancellation and has one error for a lost peer.

    redis-py sends under ``asyncio.wait_for``, which before Python 3.12 loses a cancellation that meets its end: a
    worker that has lost a job, or is told to stop, would go on. So a send is bounded here, in another way. And of a
    connection that Redis has closed uvloop says that its handle is closed, as a ``RuntimeError``, and asyncio since
    Python 3.12 that it has no loop, as an ``AttributeError``: a connection error.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        connection: Any = self
        if not connection.is_connected:
            await connection.connect_check_health(check_health=False)
        if check_health:
            await connection.check_health()
        timeout, connection.socket_timeout = connection.socket_timeout, None
        try:
            async with asyncio.timeout(timeout):
                await super().send_packed_command(command, check_health=False)  # type: ignore[misc]
        except TimeoutError:
            raise RedisTimeoutError("Timeout writing to socket") from None
        except (RuntimeError, AttributeError) as error:
            raise RedisConnectionError(f"Error while writing to socket. {error}.") from error
        finally:
            connection.socket_timeout = timeout


def connect(url: str, timeout: float, *, name: str, pool_size: int = 64) -> Redis:
    """A client whose every wait is bounded by ``timeout`` seconds.

    redis-py's own retry is off: it would send a lost ``XADD *`` twice. What may be repeated is repeated once, see
    `railstream.topology.repeating`. When all connections are in use a command waits for one, where the default pool
    would fail at once.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        protocol=2,
        client_name=name,
        max_connections=pool_size,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        **of_tcp(url),
        health_check_interval=15,
        driver_info=DriverInfo(),  # else each connection looks up redis-py's version on the disk
        retry=Retry(NoBackoff(), 0),
    )
    client: Redis = RepeatingRedis.from_pool(cancellable(pool))
    return client


def of_tcp(url: str) -> dict[str, Any]:
    """Options that redis-py's connections over a unix socket do not take."""
    return {} if url.startswith("unix:") else {"socket_keepalive": True}


def cancellable(pool: Pool) -> Pool:
    """The pool, with connections that lose no cancellation."""
    pool.connection_class = type("Connection", (_Sending, pool.connection_class), {})
    return pool
