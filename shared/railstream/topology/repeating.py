"""A client of Redis that survives pooled connections which died while nobody used them.

A command that may run twice without harm is repeated once, on the same connection opened anew, when its connection
breaks. Of any other command (``XADD *``, an increment, an unmarked script) the connection is tested with a PING just
before it is sent, since nobody can know whether a command whose reply is lost was run. A timeout is never repeated:
a Redis that is slow would be given twice the work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError


class RepeatableScript(str):
    """A Lua script that may run twice with the same arguments: the second run changes nothing that matters."""


REPEATABLE: Final = frozenset(
    {
        *("PING", "TIME", "INFO", "EXISTS", "TTL", "PTTL", "TYPE", "SCAN", "DBSIZE"),
        *("GET", "MGET", "STRLEN", "DEL", "UNLINK", "EXPIRE", "PEXPIRE"),
        *("HGET", "HMGET", "HGETALL", "HEXISTS", "HKEYS", "HLEN", "HSET", "HDEL", "HSETNX"),
        *("ZADD", "ZREM", "ZCARD", "ZCOUNT", "ZSCORE", "ZRANGE", "ZRANGEBYSCORE", "ZREVRANGE", "ZREMRANGEBYRANK"),
        *("XRANGE", "XREVRANGE", "XLEN", "XINFO STREAM", "XINFO GROUPS", "XINFO CONSUMERS", "XPENDING"),
        *("XACK", "XDEL", "PUBLISH"),
    }
)
"""Commands whose second run leaves what the first one left. ``SET`` and ``EVAL`` depend on their arguments."""


def is_repeatable(args: Sequence[Any]) -> bool:
    """Whether a command may run twice without harm. What is not known to be so, is not."""
    name = str(args[0]).upper()
    if name == "SET":
        return not {"NX", "XX", "GET"} & {str(arg).upper() for arg in args[3:]}
    if name in ("EVAL", "EVALSHA"):
        return isinstance(args[1], RepeatableScript)
    return name in REPEATABLE


class RepeatingPipeline(Pipeline):
    async def _execute_transaction(self, connection: Any, commands: Any, raise_on_error: bool) -> Any:
        run = super()._execute_transaction
        return await _safely(self._all(commands), connection, lambda: run(connection, commands, raise_on_error))

    async def _execute_pipeline(self, connection: Any, commands: Any, raise_on_error: bool) -> Any:
        run = super()._execute_pipeline
        return await _safely(self._all(commands), connection, lambda: run(connection, commands, raise_on_error))

    def _all(self, commands: Any) -> bool:
        return not self.watching and all(is_repeatable(args) for args, _ in commands)


class RepeatingRedis(Redis):
    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return RepeatingPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    async def _send_command_parse_response(self, conn: Any, command_name: Any, *args: Any, **options: Any) -> Any:
        send: Any = super()._send_command_parse_response
        return await _safely(is_repeatable(args), conn, lambda: send(conn, command_name, *args, **options))


async def _safely(repeatable: bool, connection: Any, run: Callable[[], Awaitable[Any]]) -> Any:
    if not repeatable:
        await _test(connection)
        return await run()
    try:
        return await run()
    except (RedisTimeoutError, TimeoutError):
        raise
    except (RedisConnectionError, OSError):
        await connection.disconnect(nowait=True)
        return await run()


async def _test(connection: Any) -> None:
    """Open a connection anew whose peer is gone. Raises ``TimeoutError`` of redis-py when Redis is slow."""
    if not connection.is_connected:
        return
    try:
        await connection.send_command("PING", check_health=False)
        await connection.read_response()
    except ResponseError:
        return  # it answers, with a refusal that the command will get as well
    except (RedisConnectionError, OSError):
        await connection.disconnect(nowait=True)
