"""The port of the rails engine: what a generation tells it, and what it says back.

Invariant: what a guard releases is always a prefix of guard(whole text), however the text was chunked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from railstream.config.rails import Channel
from railstream.messages import last_text


@dataclass(frozen=True, slots=True)
class Violation:
    """Why a text was stopped. ``flow`` exactly as configured, ``$model=…`` included."""

    flow: str
    stage: str
    """``input`` or ``output``."""
    message: str
    type: str = "guardrails_violation"
    code: str = "content_blocked"
    """``content_blocked``, or ``rail_execution_failure`` (type ``internal_error``) when the rail itself failed."""
    refusal: str = "I'm sorry, I can't respond to that."

    def envelope(self) -> dict[str, Any]:
        return {"message": self.message, "type": self.type, "param": self.flow, "code": self.code}


class Ask(Protocol):
    """Ask a rail's model. The call is recorded, timed out and cancelled like any other; raises ``CallError``."""

    async def __call__(
        self, model_type: str, messages: Sequence[Mapping[str, Any]], *, task: str, params: Mapping[str, Any]
    ) -> str: ...


@dataclass(slots=True)
class Turn:
    """What one generation gives its rails. ``options`` are the request's generation options (``rails``, ``log``)."""

    messages: Sequence[Mapping[str, Any]]
    ask: Ask
    context: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    activated: list[dict[str, Any]] = field(default_factory=list)
    """Filled by the rails as they run: NeMo's ``activated_rails`` entries."""

    may_switch_off: bool = False
    """Whether the request may switch rails off; the engine says so before its rails run."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """The request's options for the provider, which may hold texts too; input rails that mask replace them."""

    @property
    def user_message(self) -> str:
        """The text of the last user message."""
        return last_text(self.messages, "user")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model wants to make. ``arguments``: the text as sent, or the JSON value where it came as one."""

    name: str
    arguments: Any
    declared: bool = True
    """Whether the request named this tool: then its name says nothing of the model's own."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema of its arguments, as the request declares it."""


Release = Callable[[int, str | None], None]
"""``(consumed, text)``: the next ``consumed`` code points of what was pushed are decided; they leave as they are
when ``text`` is ``None``, else as ``text`` (masked, perhaps empty)."""


class OutputGuard(Protocol):
    """Guards one channel of one choice. Calls its ``release`` in order, and its ``block`` at most once, as the last."""

    def prime(self, text: str) -> None:
        """Text that an earlier attempt released already: context for what follows, never released again."""

    def passes(self, text: str) -> bool:
        """Take text that may leave at once and whole, as most does, while nothing is held: the caller lets it out.

        False, and nothing is taken, when it may not, or when it cannot be said so soon: `push` it.
        """

    def push(self, text: str) -> None:
        """More text. May call ``release`` or ``block`` before it returns, or later from a check's task."""

    async def finish(self) -> None:
        """The text is complete: returns when all of it is released, or blocked."""

    async def aclose(self) -> None:
        """Drop what is under way. Idempotent; nothing is released after it."""


class Guards(Protocol):
    """The output rails of one generation, as its emission sees them."""

    guarded: bool
    """Whether any rail reads the output. Without one everything leaves as it came."""
    passes_unread: bool
    """Whether text of a channel that no rail reads leaves (``unread_channels: pass``)."""

    def channel(self, name: Channel, release: Release) -> OutputGuard | None:
        """A guard of one channel of one choice; ``None`` when no rail reads that channel."""

    async def rule_call(self, call: ToolCall) -> ToolCall | None:
        """A complete tool call as the rails leave it; ``None`` when one of them has blocked it."""

    async def lets_pass(self, text: str) -> bool:
        """Whether local rails have read this text, and none of them blocks or rewrites it."""

    def alternatives(self, before: str, texts: Sequence[str]) -> list[bool]:
        """Which of these tokens local rails let stand after ``before``, each by itself; none where judges read too."""

    def close(self) -> None:
        """The generation is over: no more is blocked, and nothing leads back to it."""


Block = Callable[[Violation], None]
InputCheck = Awaitable[tuple[Sequence[Mapping[str, Any]], Violation | None]]
"""The messages to generate from (perhaps masked), and the violation if one of them was stopped."""
