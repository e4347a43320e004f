"""Rails over given messages, without generating: input rails for a user's, output rails for an assistant's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec
from railstream.messages import last_text

from railstream_engine.rails.engine import RailsEngine
from railstream_engine.rails.port import Turn

Stage = Literal["input", "output"]
Messages = Sequence[Mapping[str, Any]]


class CheckResult(msgspec.Struct, frozen=True):
    """``content``: the text that was checked last, masked where rails rewrote it, or the refusal.

    ``rail``: the flow that blocked.
    """

    status: Literal["passed", "modified", "blocked"]
    content: str
    rail: str | None = None


def stages_of(messages: Messages) -> set[Stage]:
    """Input rails where there is a user's message, output rails where there is an assistant's."""
    roles = {message.get("role") for message in messages}
    by_role: dict[str, Stage] = {"user": "input", "assistant": "output"}
    return {stage for role, stage in by_role.items() if role in roles}


async def check(engine: RailsEngine, turn: Turn, stages: Collection[Stage]) -> CheckResult:
    """Run the rails of these stages. What the input rails rewrote is what the output rails see."""
    given = content = last_text(turn.messages, "user")
    if "input" in stages:
        asked = _asked(turn.messages)
        answers, turn.messages = turn.messages[asked:], turn.messages[:asked]
        messages, violation = await engine.check_input(turn)
        if violation is not None:
            return CheckResult("blocked", violation.refusal, violation.flow)
        content = last_text(messages, "user")
        turn.messages = [*messages, *answers]
    if "output" in stages:
        given = last_text(turn.messages, "assistant")
        content, violation = await engine.check_output(turn, given)
        if violation is not None:
            return CheckResult("blocked", violation.refusal, violation.flow)
    return CheckResult("passed" if content == given else "modified", content)


def _asked(messages: Messages) -> int:
    """Where the last user message ends: a generation would begin there, and its input rails look at what is new."""
    return max((index for index, message in enumerate(messages, 1) if message.get("role") == "user"), default=0)
