"""Models that are watched while they answer: what they were asked, what they said, and how they failed.

A model of the caller's own may raise anything: here it becomes a ``CallError``, so that a generation knows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from railstream.errors import CallError, ConfigurationError, RailstreamError
from railstream.messages import text_of

from railstream_engine.providers.fallbacks import Fallbacks
from railstream_engine.providers.limited import TakesTurns
from railstream_engine.providers.port import Call, ChatModel, Delta, Part

NEEDED = ("name", "provider", "stream")


class Witness:
    """Of one answer: its calls by their request id, and the last failure."""

    def __init__(self) -> None:
        self.error: CallError | None = None
        self._calls: dict[str, tuple[Call, list[str]]] = {}

    def watch(self, model: ChatModel) -> ChatModel:
        if isinstance(model, Fallbacks):
            return Fallbacks([self.watch(one) for one in model.models])
        return WatchedInTurn(model, self) if isinstance(model, TakesTurns) else Watched(model, self)

    def saw(self, call: Call) -> list[str]:
        said: list[str] = []
        self._calls[call.request_id] = (call, said)
        return said

    def prompt(self, request_id: str) -> str:
        call, _ = self._calls[request_id]
        if len(call.messages) == 1:
            return text_of(call.messages[0])
        return "\n\n".join(f"[{message.get('role')}]\n{text_of(message)}" for message in call.messages)

    def completion(self, request_id: str) -> str:
        return "".join(self._calls[request_id][1])


class Watched:
    """A model, and who takes note."""

    def __init__(self, model: ChatModel, witness: Witness) -> None:
        self._model = model
        self._witness = witness
        self.name = model.name
        self.provider = model.provider
        self.address: str = getattr(model, "address", "")
        self.port: int = getattr(model, "port", 0)

    async def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        said = self._witness.saw(call)
        try:
            async with aclosing(self._model.stream(call)) as stream:
                async for parts in stream:
                    said.extend(part.content for part in parts if isinstance(part, Delta))
                    yield parts
        except CallError as error:
            self._note(call, error)
            raise
        except RailstreamError:
            raise
        except Exception as error:
            failed = CallError(str(error) or type(error).__name__, code="provider")
            self._note(call, failed)
            raise failed from error

    def _note(self, call: Call, error: CallError) -> None:
        if call.task == "general":
            self._witness.error = error

    async def aclose(self) -> None:
        """The model is not ours to close."""


class WatchedInTurn(Watched):
    """One whose calls wait for their turn."""

    @asynccontextmanager
    async def turn(self, call: Call) -> AsyncIterator[ChatModel]:
        assert isinstance(self._model, TakesTurns)
        async with self._model.turn(call) as ready:
            yield Watched(ready, self._witness)


class NoModel:
    """Stands where a config names no main model and none is needed, because the text comes from elsewhere."""

    name = ""
    provider = ""
    address = ""
    port = 0

    async def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        raise ConfigurationError("this config names no model of the type main; add one, or give llm=")
        yield []

    async def aclose(self) -> None:
        """There is nothing to close."""


def checked_model(llm: object) -> ChatModel:
    """The caller's own model. Raises ``ConfigurationError`` that names what it lacks."""
    missing = [name for name in NEEDED if not hasattr(llm, name)]
    if missing or asyncio.iscoroutinefunction(getattr(llm, "stream", None)):
        lack = f"it has no {', '.join(missing)}" if missing else "its stream() is a coroutine, not an async generator"
        raise ConfigurationError(
            f"llm must be a ChatModel (railstream_engine.providers.port), such as OpenAIModel or ScriptedModel; "
            f"{type(llm).__name__} is none: {lack}"
        )
    model: Any = llm
    checked: ChatModel = model
    return checked
