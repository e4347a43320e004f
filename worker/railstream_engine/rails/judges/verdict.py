"""What a rail says of a text: allow it, block it, or rewrite it.

Accepted from an action are also a bool (``True``: allowed, as in NeMo Guardrails) and an object with the form of
NeMo's ``RailOutcome``. Anything else is no verdict, and what is no verdict blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from railstream.errors import RailError

Stage = Literal["input", "output"]


@dataclass(frozen=True, slots=True)
class Verdict:
    decision: Literal["allow", "block", "rewrite"]
    reason: str = ""
    text: str | None = None
    """The whole text as it should be, when the decision is ``rewrite``."""


_ALLOW = Verdict("allow")


def allow() -> Verdict:
    return _ALLOW


def block(reason: str = "") -> Verdict:
    return Verdict("block", reason)


def rewrite(text: str) -> Verdict:
    return Verdict("rewrite", text=text)


def verdict_of(returned: Any, stage: Stage) -> Verdict:
    """The verdict that an action returned. Raises ``RailError`` when it is none."""
    if isinstance(returned, Verdict):
        return _checked(returned)
    if isinstance(returned, bool):
        return _ALLOW if returned else block()
    decision = getattr(returned, "decision", None)
    match getattr(decision, "value", decision):
        case "allow":
            return _ALLOW
        case "block":
            return block(str(getattr(returned, "reason", None) or ""))
        case "transform":
            return _transform(returned, stage)
    raise RailError(f"Rail action must return a bool or a Verdict, got {type(returned).__name__}")


def _checked(verdict: Verdict) -> Verdict:
    if verdict.decision == "rewrite" and not isinstance(verdict.text, str):
        raise RailError(f"rewrite() needs a text, got {type(verdict.text).__name__}")
    return verdict


def _transform(outcome: Any, stage: Stage) -> Verdict:
    target = "user_message" if stage == "input" else "bot_message"
    texts = getattr(outcome, "transform_text", None)
    text = texts.get(target) if isinstance(texts, dict) else None
    if not isinstance(text, str):
        raise RailError(f"the outcome transforms something other than {target}, which cannot be done here")
    return rewrite(text)
