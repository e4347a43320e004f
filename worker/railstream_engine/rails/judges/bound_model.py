"""A model as a custom action sees it: ask it, and its call is recorded, timed out and cancelled like any other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from railstream_engine.rails.port import Turn


@dataclass(frozen=True, slots=True)
class BoundModel:
    type: str
    """The model's type in the config."""
    turn: Turn
    task: str

    async def __call__(self, prompt: str | Sequence[Mapping[str, Any]], **params: Any) -> str:
        """The model's answer to a prompt or to messages. ``params`` are OpenAI's request options."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return await self.turn.ask(self.type, messages, task=self.task, params=params)


class BoundModels(Mapping[str, BoundModel]):
    """The config's models by type."""

    def __init__(self, types: Sequence[str], turn: Turn, task: str) -> None:
        self._models = {kind: BoundModel(kind, turn, task) for kind in types}

    def __getitem__(self, kind: str) -> BoundModel:
        return self._models[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)
