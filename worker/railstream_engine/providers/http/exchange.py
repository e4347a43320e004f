"""One streamed answer of an HTTP provider: begun with retries, read as bytes, closed always.

Retries end with the first content: from then on text may have left, and a second answer would be another text.
Leaving the stream closes the connection, which is what stops the provider.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from typing import Any, Final, Protocol

import httpx2
from railstream.errors import CallError

from railstream_engine.providers.endpoint import Endpoint, Patience
from railstream_engine.providers.faults import late, redact, truncated
from railstream_engine.providers.http.event_lines import EventLines
from railstream_engine.providers.http.pace import Pace
from railstream_engine.providers.http.transport import body_of, direct_body_of
from railstream_engine.providers.port import Call, Delta, Finish, Part, Taker

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 8.0
LAST_BYTES: Final = 0.05
"""Seconds to wait for the end of a body whose last event was read: a connection that ends in order is used again."""

LIMITS: Final = httpx2.Limits(max_connections=None, max_keepalive_connections=200, keepalive_expiry=30)


class Source(Protocol):
    """A model of an HTTP provider, as an exchange needs it."""

    name: str
    provider: str

    def request(self, call: Call) -> AbstractAsyncContextManager[Any]:
        """Sends the call when it is entered; gives the SDK's response."""
        ...

    def reader(self, call: Call) -> EventLines: ...

    def fault(self, error: Exception) -> CallError | None:
        """What an exception of `request` means; ``None`` for one that is none of the provider's."""
        ...


def timeout_of(endpoint: Endpoint) -> httpx2.Timeout:
    return httpx2.Timeout(endpoint.patience.silence, connect=endpoint.patience.connect)


def traced(call: Call) -> dict[str, str]:
    """Headers by which two ledgers can be compared, and traces be joined."""
    named = {"X-Request-Id": call.request_id, "traceparent": call.traceparent}
    return {name: value for name, value in named.items() if value}


class Exchange:
    """A response that is being read."""

    def __init__(self, manager: AbstractAsyncContextManager[Any], response: Any, reader: EventLines) -> None:
        self._manager = manager
        self.body = body_of(response.http_response)
        self.reader = reader
        self._direct = direct_body_of(response.http_response)

    def hand_to(self, taker: Taker, said: bytearray, pace: Pace) -> None:
        """From now on parts go to the taker as they arrive, whenever it is ready; all else comes out of ``body``."""
        if self._direct is None:
            return
        connection, reader, time = self._direct.connection, self.reader, asyncio.get_running_loop().time

        def take(data: bytes) -> bool:
            now = time()
            if reader.done or now > pace.last or not taker.ready():
                return False
            parts = reader.feed(data)
            if parts:
                _note(said, parts)
                pace.gained(now)
                taker.take(parts)
            if reader.done:
                connection.nudge()
            return True

        connection.taker = take

    def watched(self, pace: Pace) -> AsyncGenerator[bytes, None]:
        """The body; with nothing, or its end, when the next part is late by the pace."""
        if self._direct is None:
            return _watched(self.body, pace)
        pace.watch(self._direct.connection.nudge)
        return self.body

    async def aclose(self) -> None:
        if self._direct is not None:
            self._direct.connection.taker = None
        if self.reader.done:
            with suppress(TimeoutError, httpx2.HTTPError, httpx2.StreamError):
                async with asyncio.timeout(LAST_BYTES):
                    async for _ in self.body:
                        pass
        await self._manager.__aexit__(None, None, None)
        await self.body.aclose()


async def answer(source: Source, call: Call, patience: Patience) -> AsyncGenerator[Sequence[Part], None]:
    """Parts as they arrive. Raises ``CallError`` with the text so far; never ends without the provider's end signal."""
    last = asyncio.get_running_loop().time() + patience.total
    exchange, begun = await _begin(source, call, patience, last)
    reader = exchange.reader
    said = bytearray()
    _note(said, begun)
    pace = Pace(reader, patience, last)
    try:
        yield begun
        if call.taker is not None:
            exchange.hand_to(call.taker, said, pace)
        async with aclosing(_parts(source, exchange, pace, patience)) as rest:
            async for parts in rest:
                _note(said, parts)
                yield parts
    except CallError as error:
        error.partial = _text(said)
        raise
    except (TimeoutError, httpx2.HTTPError, httpx2.StreamError) as error:
        raise _failure(source, patience, error, _text(said)) from error
    finally:
        pace.stop()
        await exchange.aclose()


async def _parts(
    source: Source, exchange: Exchange, pace: Pace, patience: Patience
) -> AsyncGenerator[Sequence[Part], None]:
    """What comes after the begin, until the end of the answer: its end signal, or what makes it whole and a while."""
    reader, time = exchange.reader, asyncio.get_running_loop().time
    if not reader.done:
        try:
            async for data in exchange.watched(pace):
                parts = reader.feed(data)
                if parts:
                    pace.gained(time())
                    yield parts
                if reader.done:
                    break
                if not parts and pace.passed():
                    if reader.complete:
                        break
                    raise late(source.provider, source.name, "chunk_timeout", patience.chunk)
                if time() > pace.last:
                    raise late(source.provider, source.name, "total_timeout", patience.total)
        except (httpx2.HTTPError, httpx2.StreamError):
            if not reader.complete:
                raise
    if parts := reader.end():
        yield parts
    if not reader.complete:
        raise truncated(source.provider, source.name)


def _note(said: bytearray, parts: Sequence[Part]) -> None:
    """What the first choice says, kept in as few bytes as it has."""
    for part in parts:
        if type(part) is Delta and not part.index:
            said += part.content.encode("utf-8", "surrogatepass")


def _text(said: bytearray) -> str:
    return said.decode("utf-8", "surrogatepass")


def _failure(source: Source, patience: Patience, error: Exception, partial: str) -> CallError:
    """What an exception of the reading means."""
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        failure = late(source.provider, source.name, "chunk_timeout", patience.chunk)
    else:
        failure = _broken(source, error)
    failure.partial = partial
    return failure


async def _watched(body: AsyncGenerator[bytes, None], pace: Pace) -> AsyncGenerator[bytes, None]:
    """A body that is not ours to wake: one timer for each read."""
    while True:
        try:
            async with asyncio.timeout_at(pace.due):
                data = await anext(body)
        except StopAsyncIteration:
            return
        except TimeoutError:
            yield b""
            return
        yield data


async def _begin(source: Source, call: Call, patience: Patience, last: float) -> tuple[Exchange, list[Part]]:
    """An exchange that has content, and its parts so far; begun anew as long as that is worth while."""
    loop = asyncio.get_running_loop()
    deadline = min(last, loop.time() + patience.first_token)
    retries = 0
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                return await _try(source, call)
        except TimeoutError as error:
            raise late(source.provider, source.name, "first_token_timeout", patience.first_token) from error
        except CallError as error:
            pause = pause_before(retries, error)
            if not error.retryable or retries >= patience.max_retries or loop.time() + pause >= deadline:
                raise
        retries += 1
        await asyncio.sleep(pause)


async def _try(source: Source, call: Call) -> tuple[Exchange, list[Part]]:
    manager = source.request(call)
    try:
        response = await manager.__aenter__()
    except Exception as error:
        fault = source.fault(error)
        try:
            if fault is None:
                raise
            raise fault from error
        finally:
            del fault  # its traceback leads here
    exchange = Exchange(manager, response, source.reader(call))
    try:
        return exchange, await _until_content(source, exchange)
    except BaseException:
        await exchange.aclose()
        raise


async def _until_content(source: Source, exchange: Exchange) -> list[Part]:
    begun: list[Part] = []
    reader = exchange.reader
    try:
        async for data in exchange.body:
            parts = reader.feed(data)
            begun += parts
            if any(type(part) is Delta or type(part) is Finish for part in parts):
                return begun
            if reader.done:
                break
    except httpx2.TimeoutException as error:
        raise TimeoutError from error
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise _broken(source, error) from error
    begun += reader.end()
    if not reader.complete:
        raise truncated(source.provider, source.name)
    return begun


def pause_before(retries: int, error: CallError) -> float:
    """As long as the provider asks for, else longer each time, and never the same for all."""
    if error.retry_after is not None:
        return error.retry_after
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**retries) * random.uniform(0.75, 1)


def _broken(source: Source, error: Exception) -> CallError:
    said = redact(str(error)) or type(error).__name__
    return CallError(f"the connection to {source.provider} broke: {said}", code="connection")
