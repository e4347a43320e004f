"""A model of which only so much may be asked: calls wait for their turn in order, and are refused at the deadline.

Turns are of this process (``concurrency``); requests and tokens per minute are shared by all of them.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Final, Protocol, runtime_checkable

import msgspec
from railstream.errors import CallError
from railstream.tokens import input_estimate

from railstream_engine.providers.port import Call, ChatModel, Part, Taker, TokenCount
from railstream_engine.providers.quota import Booking, Limit, Quota, QuotaUnavailable

log = logging.getLogger(__name__)

ANSWER: Final = 256
"""Tokens booked for an answer whose length the request does not bound."""


@runtime_checkable
class TakesTurns(Protocol):
    """A model whose calls wait: who records calls waits first, so that they begin when they are made."""

    def turn(self, call: Call) -> AbstractAsyncContextManager[ChatModel]:
        """Waits until the call may be made; gives the model to make it with, or one that refuses it."""
        ...


class Limited:
    """``concurrency`` 0: no bound. ``longest``: seconds that a call may wait for all of it."""

    def __init__(self, model: ChatModel, quota: Quota, limit: Limit, *, concurrency: int, longest: float) -> None:
        self.name = model.name
        self.provider = model.provider
        self.address = model.address
        self.port = model.port
        self._model = self.unlimited = model
        self._quota = quota
        self._limit = limit
        self._concurrency = concurrency
        self._turns = asyncio.Semaphore(concurrency) if concurrency else None
        self._longest = longest

    async def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        """As the model's own, once it is its turn."""
        async with self.turn(call) as model, aclosing(model.stream(call)) as stream:
            async for parts in stream:
                yield parts

    @asynccontextmanager
    async def turn(self, call: Call) -> AsyncIterator[ChatModel]:
        async with AsyncExitStack() as taken:
            try:
                ready = await taken.enter_async_context(self._turn(call))
            except CallError as error:
                ready = Refusing(self, error)
            yield ready

    @asynccontextmanager
    async def _turn(self, call: Call) -> AsyncIterator[ChatModel]:
        deadline = asyncio.get_running_loop().time() + self._longest
        await self._take_turn(deadline)
        try:
            if self._limit.requests or self._limit.tokens:
                async with self._within_quota(call, deadline) as booked:
                    yield booked
            else:
                yield self._model
        finally:
            if self._turns is not None:
                self._turns.release()

    async def _take_turn(self, deadline: float) -> None:
        if self._turns is None:
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._turns.acquire()
        except TimeoutError as error:
            raise self._refusal(f"{self._concurrency} calls of it run in this worker", 1) from error

    @asynccontextmanager
    async def _within_quota(self, call: Call, deadline: float) -> AsyncIterator[ChatModel]:
        booking = await self._book(call, deadline)
        booked = Booked(self._model)
        try:
            if booking.wait > 0:
                await asyncio.sleep(booking.wait)
            yield booked
        finally:
            await self._settle(booking, booked)

    async def _book(self, call: Call, deadline: float) -> Booking:
        longest = max(0.0, deadline - asyncio.get_running_loop().time())
        try:
            booking = await self._quota.reserve(self._limit, estimate(call), longest)
        except QuotaUnavailable as error:
            raise CallError(f"the limits of {self.name} cannot be asked now", code="overloaded") from error
        if booking.slice < 0:
            raise self._refusal("its requests or tokens per minute are used up", booking.wait)
        return booking

    async def _settle(self, booking: Booking, booked: Booked) -> None:
        tokens = booked.tokens
        if booked.sent and tokens is None:
            return
        used = None if tokens is None else tokens.input_tokens + tokens.output_tokens
        try:
            await self._quota.settle(self._limit, booking, used=used)
        except QuotaUnavailable as error:
            log.warning("the use of %s was not booked: %s", self.name, error)

    def _refusal(self, why: str, wait: float) -> CallError:
        said = f"{self.name} cannot be asked within {self._longest:g} s: {why}"
        return CallError(said, code="rate_limited", retry_after=math.ceil(wait))

    async def aclose(self) -> None:
        await self._model.aclose()


class Booked:
    """A model for one call that was booked: it knows whether the call was made, and what it came to."""

    def __init__(self, model: ChatModel) -> None:
        self.name = model.name
        self.provider = model.provider
        self.address = model.address
        self.port = model.port
        self.sent = False
        self.tokens: TokenCount | None = None
        self._model = model
        self._taker: Taker | None = None

    async def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        self.sent = True
        if call.taker is not None:
            self._taker = call.taker
            call = msgspec.structs.replace(call, taker=self)
        async with aclosing(self._model.stream(call)) as stream:
            async for parts in stream:
                self._count(parts)
                yield parts

    def _count(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if type(part) is TokenCount:
                self.tokens = part

    def ready(self) -> bool:
        return self._taker is not None and self._taker.ready()

    def take(self, parts: Sequence[Part]) -> None:
        assert self._taker is not None
        self._count(parts)
        self._taker.take(parts)

    async def aclose(self) -> None:
        """The model is not ours to close."""


class Refusing:
    """A model whose limits do not let a call be made: the call fails at once, and goes on record as any other."""

    def __init__(self, model: ChatModel, error: CallError) -> None:
        self.name = model.name
        self.provider = model.provider
        self.address = model.address
        self.port = model.port
        self._error = error

    async def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        raise self._error
        yield []

    async def aclose(self) -> None:
        """There is nothing to close."""


def estimate(call: Call) -> int:
    """Tokens of a call before it is made."""
    limit = call.params.get("max_completion_tokens") or call.params.get("max_tokens")
    return input_estimate(call.messages) + (limit if isinstance(limit, int) else ANSWER)
