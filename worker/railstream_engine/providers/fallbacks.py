"""A model and those that stand in for it: tried in turn, as long as none has said anything.

Each try is a call of its own, with its own usage record: whoever makes calls asks `first_of` for all of them.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final

import msgspec
from railstream.errors import CallError

from railstream_engine.providers.port import Call, ChatModel, Delta, Finish, Part

log = logging.getLogger(__name__)

FINAL: Final = frozenset({"invalid_request", "content_filtered"})
"""Another model is not asked what the first one was right to refuse."""


class Fallbacks:
    """Looks like its first model. ``models``: that one, then its stand-ins."""

    def __init__(self, models: Sequence[ChatModel]) -> None:
        self.models = tuple(models)
        first = self.models[0]
        self.name = first.name
        self.provider = first.provider
        self.address = first.address
        self.port = first.port

    def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        return first_of(self.models, call, lambda model, call: model.stream(call))

    async def aclose(self) -> None:
        for model in self.models:
            await model.aclose()


Streamer = Callable[[ChatModel, Call], AsyncGenerator[Sequence[Part], None]]


async def first_of(models: Sequence[ChatModel], call: Call, stream: Streamer) -> AsyncGenerator[Sequence[Part], None]:
    """The parts of the first model that has something to say; what the others sent before they failed is dropped.

    Raises:
        CallError: of a model that failed after its first content, or of the last one.
    """
    for model in models:
        parts = stream(model, msgspec.structs.replace(call, model=model.name))
        begun: list[Part] | None = []
        try:
            async with aclosing(parts):
                async for part_list in parts:
                    if begun is None:
                        yield part_list
                        continue
                    begun += part_list
                    if any(type(part) is Delta or type(part) is Finish for part in part_list):
                        said, begun = begun, None
                        yield said
            if begun:
                yield begun
            return
        except CallError as error:
            if begun is None or model is models[-1] or error.code in FINAL:
                raise
            log.warning("model %s failed before its first token (%s): the next one is asked", model.name, error.code)
