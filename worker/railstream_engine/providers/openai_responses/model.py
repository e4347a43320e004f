"""A model behind the Responses API: each call is a run in the background, which outlives the connection that reads it.

A connection that breaks is replaced by another one that goes on behind the last event. All connections of a call
together have the call's deadlines. A run that nobody will read to its end is cancelled at the provider.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from typing import Any, Final

import openai
from railstream.errors import CallError

from railstream_engine.providers.endpoint import Endpoint, Patience
from railstream_engine.providers.faults import late
from railstream_engine.providers.http.exchange import answer, pause_before
from railstream_engine.providers.openai.model import OpenAIModel
from railstream_engine.providers.openai_responses.beginning import Beginning
from railstream_engine.providers.openai_responses.events import ResponseReader
from railstream_engine.providers.openai_responses.position import Position
from railstream_engine.providers.openai_responses.request import body_of
from railstream_engine.providers.options import accepted
from railstream_engine.providers.port import Call, Part

log = logging.getLogger(__name__)

BREAKS: Final = frozenset({"connection", "truncated", "timeout"})
"""What ends a connection and says nothing of the run."""
REFUSES: Final = frozenset({"not_found", "invalid_request"})
"""How a provider answers for a run that it does not know, or that is too old to be streamed again."""
CANCEL_WAIT: Final = 5.0
"""Seconds for the cancel of a run."""


class ResponsesModel(OpenAIModel):
    """One model of one endpoint. Its connections are kept between calls."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._cancels: set[asyncio.Task[None]] = set()

    async def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        """Parts as they arrive. Raises ``CallError``; never ends without the end of the run."""
        runs = call.runs
        position, stored = Position(), runs is None
        if runs is not None:
            position.id = runs.read_again(call)
            position.on_begun = lambda run: runs.begun(run, call, self)
        try:
            async with aclosing(self._read(call, position)) as stream:
                async for parts in stream:
                    if runs is not None and not stored:
                        await runs.stored()
                        stored = True
                    yield parts
            if runs is not None:
                runs.ended()
        except CallError as error:
            if position.id and runs is not None:
                await self._give_up(call, position, error)
            raise
        finally:
            if position.id and not position.ended and runs is None:
                self._cancel_later(position.id)

    async def _give_up(self, call: Call, position: Position, error: CallError) -> None:
        """The call has failed. What becomes of its run, which may go on?"""
        assert call.runs is not None
        if not position.connections and error.code in REFUSES:
            await call.runs.gone()
        else:
            await call.runs.forget()
        if not position.ended:
            self._cancel_later(position.id)

    async def _read(self, call: Call, position: Position) -> AsyncGenerator[Sequence[Part], None]:
        """The parts of a run, over as many connections as it takes."""
        connection, partial, retries = _Connection(self, position), "", 0
        broke: CallError | None = None
        began = time.monotonic()
        while True:
            before = position.last, position.connections
            try:
                patience = self._patience(position, began)
                async with aclosing(answer(connection, call, patience)) as stream:
                    async for parts in stream:
                        yield parts
                return
            except CallError as error:
                error.partial = partial = partial + error.partial
                opened = position.connections > before[1]
                if broke is not None and not opened and error.code in REFUSES:
                    broke.partial = partial
                    raise broke from error  # the run is too old to be read again: what broke it off stands
                broke = error if opened else broke
                retries = 0 if position.last > before[0] else retries + 1
                pause = pause_before(retries - 1, error) if retries else 0.0
                self._check(error, position, began, pause, opened=opened)
            await asyncio.sleep(pause)

    def _check(self, error: CallError, position: Position, began: float, pause: float, *, opened: bool) -> None:
        """Raise the error, unless another connection may go on with the run."""
        which, limit, due = self._due(position, began)
        broken = error.code in BREAKS and error.param != "total_timeout"
        refused_for_now = not opened and error.retryable
        if not position.resumable or not (broken or refused_for_now):
            raise error
        if time.monotonic() + pause < due:
            log.info("the connection to a run of %s broke (%s): reading it again", self.name, error.code)
            return
        if error.code != "timeout":
            raise error
        timeout = late(self.provider, self.name, which, limit)
        timeout.partial = error.partial
        raise timeout from error

    def _due(self, position: Position, began: float) -> tuple[str, float, float]:
        """The deadline that comes next: its name, its seconds, and when it is."""
        patience = self._endpoint.patience
        if position.read_at:
            next_part = "chunk_timeout", patience.chunk, position.read_at + patience.chunk
        else:
            next_part = "first_token_timeout", patience.first_token, began + patience.first_token
        return min(next_part, ("total_timeout", patience.total, began + patience.total), key=lambda due: due[2])

    def _patience(self, position: Position, began: float) -> Patience:
        """Of one connection: a silent one is replaced after half of the time, in case that it is dead."""
        patience, now = self._endpoint.patience, time.monotonic()
        return replace(
            patience,
            first_token=max(0.001, self._due(position, began)[2] - now),
            chunk=patience.chunk / 2,
            total=max(0.001, began + patience.total - now),
            max_retries=0 if position.id else patience.max_retries,
        )

    def begin(self, call: Call, position: Position) -> AbstractAsyncContextManager[Any]:
        endpoint = self._endpoint
        params = accepted(call, endpoint.provider, endpoint.refuses, endpoint.drops)
        body = body_of(call.model, call.messages, dict(endpoint.params), params)
        request = self._client.responses.with_streaming_response.create(
            model=call.model, input=[], stream=True, extra_body=body, extra_headers=self._headers(call)
        )
        return Beginning(request, position, self.cancel_run, self._spawn)

    def read_again(self, call: Call, position: Position) -> AbstractAsyncContextManager[Any]:
        after = position.last if position.last >= 0 else openai.omit
        return self._client.responses.with_streaming_response.retrieve(
            position.id, stream=True, starting_after=after, extra_headers=self._headers(call)
        )

    async def cancel_run(self, run: str) -> None:
        """Cancel a run at the provider. It may have ended, or be unknown there. Raises nothing."""
        try:
            async with asyncio.timeout(CANCEL_WAIT):
                async with self._client.responses.with_streaming_response.cancel(
                    run, extra_headers=self._headers(Call(self.name, ()))
                ):
                    pass
        except (openai.APIError, CallError, TimeoutError) as error:
            log.warning("the run %s of %s could not be cancelled: %s", run, self.name, type(error).__name__)

    def _cancel_later(self, run: str) -> None:
        self._spawn(self.cancel_run(run))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what is bounded in time and nobody waits for; `aclose` does."""
        task = asyncio.get_running_loop().create_task(work)
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    async def aclose(self) -> None:
        await asyncio.gather(*self._cancels)
        await super().aclose()


class _Connection:
    """The source of one exchange: it begins a run, or reads the begun one behind its last event."""

    def __init__(self, model: ResponsesModel, position: Position) -> None:
        self.name = model.name
        self.provider = model.provider
        self._model = model
        self._position = position

    def request(self, call: Call) -> AbstractAsyncContextManager[Any]:
        position = self._position
        return self._model.read_again(call, position) if position.id else self._model.begin(call, position)

    def reader(self, call: Call) -> ResponseReader:
        return ResponseReader(self._position)

    def fault(self, error: Exception) -> CallError | None:
        return self._model.fault(error)
