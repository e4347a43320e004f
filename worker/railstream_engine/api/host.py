"""What the answers of one `LLMRails` share: its engine, its models and its telemetry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry import context as otel_context
from railstream.config import Model, RailsConfig
from railstream.errors import ConfigurationError
from railstream.telemetry.process import of_program

from railstream_engine.api.explain import ExplainInfo
from railstream_engine.api.external import External
from railstream_engine.api.question import Question
from railstream_engine.api.run import Run
from railstream_engine.api.watched_models import NoModel
from railstream_engine.models import build, with_fallbacks
from railstream_engine.providers.port import ChatModel
from railstream_engine.rails.engine import RailsEngine

Models = dict[str, ChatModel]


class Host:
    """``llm`` answers in place of the config's main model, and is never closed here."""

    def __init__(self, config: RailsConfig, llm: ChatModel | None) -> None:
        self.config = config
        self._llm = llm
        self._actions: dict[str, Callable[..., Any]] = {}
        self._engine: RailsEngine | None = None
        # Connections belong to the event loop that opened them, and a program may run several, one after another.
        self._models: WeakKeyDictionary[asyncio.AbstractEventLoop, Models] = WeakKeyDictionary()
        self._telemetry = of_program(model.model for model in config.models)

    @property
    def engine(self) -> RailsEngine:
        """Made on first use, so that actions can be registered before. Raises ``ConfigurationError``."""
        if self._engine is None:
            self._engine = RailsEngine(self.config, self._actions, in_process=True)
        return self._engine

    def register(self, name: str, action: Callable[..., Any]) -> None:
        self._actions[name] = action
        self._engine = None

    def _refuse_no_model(self) -> None:
        """Raises ``ConfigurationError`` when nothing can answer."""
        if self._llm is None and not self.config.main_models:
            raise ConfigurationError("this config names no model of the type main; add one, or give llm=")

    def starter(
        self,
        question: Question,
        *,
        external: External | None = None,
        streaming: bool = False,
        rails_only: bool = False,
    ) -> Callable[[ExplainInfo], Run]:
        """What starts the run. All that can be wrong is found now; the trace that is current now is its parent.

        ``external``: where the text comes from, in place of a model. ``rails_only``: there is nothing to generate.
        """
        engine, context = self.engine, otel_context.get_current()
        if external is None and not rails_only:
            self._refuse_no_model()

        def start(info: ExplainInfo) -> Run:
            return Run(
                self.config, engine, self._serving(), question, info, self._telemetry, context, external, streaming
            )

        return start

    def _serving(self) -> Mapping[str, ChatModel]:
        """The models by type, those of this event loop."""
        models = self._models.setdefault(asyncio.get_running_loop(), {})
        if not models:
            entries = {entry.type: entry for entry in self.config.models if entry.used}
            if self.config.main_models:
                entries["main"] = self.config.main_models[0]
            if self._llm is not None:
                entries.pop("main", None)
            models |= {kind: with_fallbacks(entry, self.config, self._build) for kind, entry in entries.items()}
        return {"main": self._llm or NoModel(), **models}

    def _build(self, entry: Model) -> ChatModel:
        return build(entry, self.config.deadlines_of(entry))

    async def aclose(self) -> None:
        """Close the connections that were opened from this event loop."""
        for model in self._models.pop(asyncio.get_running_loop(), {}).values():
            await model.aclose()
