"""What a conversation keeps of a question: what the input rails made of it, before any model sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from railstream_engine.generation.generation import Messages, Rails
from railstream_engine.rails.port import Guards, Turn, Violation

Rewritten = Mapping[int, dict[str, Any]]
"""Messages of a turn by their position in it."""


@runtime_checkable
class KeepsQuestion(Protocol):
    """A sink of a conversation, which may hold the question as it was sent."""

    async def keep_question(self, rewritten: Rewritten) -> None:
        """Put these in the place of what was sent. Raises an outage of Redis alone."""


@dataclass(frozen=True, slots=True)
class KeepingRails:
    """Rails that hand on what they rewrote of the turn's own messages. ``earlier``: how many stand before those."""

    rails: Rails
    earlier: int
    keep: Callable[[Rewritten], Awaitable[None]]

    async def check_input(self, turn: Turn) -> tuple[Messages, Violation | None]:
        sent = list(turn.messages)
        messages, violation = await self.rails.check_input(turn)
        rewritten = _rewritten(sent[self.earlier :], messages[self.earlier :])
        if rewritten and violation is None:
            await self.keep(rewritten)
        return messages, violation

    def guards(self, turn: Turn, block: Callable[[Violation], None], *, streaming: bool = True) -> Guards:
        return self.rails.guards(turn, block, streaming=streaming)


def _rewritten(sent: Sequence[Mapping[str, Any]], read: Sequence[Mapping[str, Any]]) -> Rewritten:
    pairs = enumerate(zip(sent, read, strict=True))
    return {at: dict(after) for at, (before, after) in pairs if after is not before and after != before}
