"""Whom `railstream chat` talks to: the port, and the rails of a config in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from railstream.config import ConfigSet
from railstream.errors import ConfigurationError, ModelNotFoundError
from railstream.events import Blocked, Failed

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Ended:
    """How an answer ended. ``note`` says why it was blocked or failed; ``refusal`` is said instead of the text."""

    status: Literal["finished", "blocked", "failed"] = "finished"
    note: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class UsedCall:
    """One LLM call; token figures are ``None`` when the provider sent none."""

    task: str
    model: str
    input_tokens: int | None
    output_tokens: int | None
    seconds: float


class Partner(Protocol):
    """Whoever answers. Cancelling ``answer`` stops the answer where it is made."""

    name: str

    def answer(self, messages: Messages, *, streaming: bool) -> AsyncGenerator[str | Ended, None]:
        """Texts, and as the last element how it ended."""

    async def calls(self) -> Sequence[UsedCall]:
        """The LLM calls of the last answer."""

    async def aclose(self) -> None: ...


class InProcess:
    """The rails of a config, without a server and without Redis."""

    def __init__(self, config: Path | None, config_id: str | None, model: str | None) -> None:
        """Raises ``ConfigurationError``: something is wrong with the config, or the worker's extra is missing."""
        try:
            from railstream_engine.models import build

            from railstream import LLMRails
        except ImportError as missing:
            raise ConfigurationError(str(missing)) from missing
        configs = ConfigSet.load(config)
        chosen = configs.get((config_id,) if config_id else ())
        entries = [entry for entry in chosen.main_models if model in (None, entry.model)]
        if not entries:
            names = ", ".join(entry.model for entry in chosen.main_models) or "none"
            raise ModelNotFoundError(f"model {model!r} is not served by {chosen.id!r}; served are {names}")
        self.name = f"{chosen.id} ({entries[0].model}), in this process"
        self._llm = build(entries[0], chosen.deadlines_of(entries[0]))
        self._rails = LLMRails(chosen, llm=self._llm)

    async def answer(self, messages: Messages, *, streaming: bool) -> AsyncGenerator[str | Ended, None]:
        async with aclosing(self._rails.stream_events_async(messages=messages, streaming=streaming)) as events:
            async for event in events:
                match event:
                    case str():
                        yield event
                    case Blocked(error=error, refusal=refusal):
                        yield Ended("blocked", str(error.get("message")), refusal)
                    case Failed(error=error):
                        yield Ended("failed", str(error.get("message")))
                    case _:
                        yield Ended()

    async def calls(self) -> Sequence[UsedCall]:
        return [
            UsedCall(
                call.task or "",
                call.llm_model_name or "",
                call.prompt_tokens,
                call.completion_tokens,
                call.duration or 0,
            )
            for call in self._rails.explain().llm_calls
        ]

    async def aclose(self) -> None:
        await self._rails.aclose()
        await self._llm.aclose()
