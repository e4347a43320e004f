"""The request that begins a run. It is sent to its end even if the call is left meanwhile: a provider that has taken it
generates, and only the id in its answer lets the run be cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Final

from railstream_engine.providers.http.transport import direct_body_of
from railstream_engine.providers.openai_responses.events import ResponseReader
from railstream_engine.providers.openai_responses.position import Position

log = logging.getLogger(__name__)

NAMED_WITHIN: Final = 10.0
"""Seconds that a provider has to name a run whose call was left."""


class Beginning:
    """In place of the SDK's ``request``. ``spawn`` runs what goes on when nobody waits any more."""

    def __init__(
        self,
        request: AbstractAsyncContextManager[Any],
        position: Position,
        cancel: Callable[[str], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._request = request
        self._position = position
        self._cancel = cancel
        self._spawn = spawn
        self._sending: asyncio.Future[Any] | None = None

    async def __aenter__(self) -> Any:
        self._sending = asyncio.ensure_future(self._request.__aenter__())
        try:
            return await asyncio.shield(self._sending)
        except asyncio.CancelledError:
            self._spawn(self._cancel_unnamed(self._sending))
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._sending is not None
        if self._position.id or self._position.failed:
            await self._request.__aexit__(None, None, None)
        else:
            self._spawn(self._cancel_unnamed(self._sending))

    async def _cancel_unnamed(self, sending: asyncio.Future[Any]) -> None:
        run = ""
        try:
            async with asyncio.timeout(NAMED_WITHIN):
                response = await sending
                try:
                    run = await _name_of(response.http_response)
                finally:
                    await self._request.__aexit__(None, None, None)
        except Exception as error:
            log.warning("a run whose call was left was not named by its provider: %s", type(error).__name__)
        if run:
            await self._cancel(run)


async def _name_of(response: Any) -> str:
    """The id of the run that a response begins; empty where the body ends without it, or is read already."""
    body = direct_body_of(response)
    position = Position()
    reader = ResponseReader(position)
    if body is not None:
        async for data in body:
            reader.feed(data)
            if position.id:
                break
    return position.id
