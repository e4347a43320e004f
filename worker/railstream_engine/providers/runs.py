"""Models whose provider keeps a run: found behind the fallbacks and limits that stand before them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from railstream_engine.providers.fallbacks import Fallbacks
from railstream_engine.providers.limited import Limited
from railstream_engine.providers.port import ChatModel


@runtime_checkable
class KeepsRuns(ChatModel, Protocol):
    """A model whose runs go on without a connection."""

    async def cancel_run(self, run: str) -> None:
        """Cancel a run at the provider. Raises nothing."""


def run_keepers(model: ChatModel) -> Iterator[KeepsRuns]:
    """The models that a call of ``model`` may end up with, as far as they keep runs. To read a run again, or to cancel
    it, needs no turn and costs no tokens: limits are left out."""
    for one in model.models if isinstance(model, Fallbacks) else (model,):
        found = one.unlimited if isinstance(one, Limited) else one
        if isinstance(found, KeepsRuns):
            yield found
