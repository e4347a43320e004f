"""Bodies of other servers' clients in OpenAI's words: what the big servers take for the same is the same here."""

from __future__ import annotations

from typing import Any, Final

INTEGERS: Final = ("max_tokens", "max_completion_tokens", "n", "seed", "top_logprobs")
UNBOUNDED: Final = ("max_tokens", "max_completion_tokens")
"""-1 means no bound, to llama.cpp and to older frameworks."""


def as_openai_writes(sent: dict[str, Any]) -> dict[str, Any]:
    """The body, changed only where it says the same in other words; the body itself stays as it is."""
    changed: dict[str, Any] = {}
    for name in INTEGERS:
        value = sent.get(name)
        if isinstance(value, float) and value.is_integer():
            changed[name] = value = int(value)
        if name in UNBOUNDED and value == -1:
            changed[name] = None
    if sent.get("tool_choice") == "any":
        changed["tool_choice"] = "required"
    messages = sent.get("messages")
    if isinstance(messages, list) and any(map(_has_untyped_call, messages)):
        changed["messages"] = [_typed(message) if _has_untyped_call(message) else message for message in messages]
    return {**sent, **changed} if changed else sent


def _has_untyped_call(message: Any) -> bool:
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    return isinstance(calls, list) and any(map(_is_untyped, calls))


def _is_untyped(call: Any) -> bool:
    return isinstance(call, dict) and "type" not in call and "function" in call


def _typed(message: dict[str, Any]) -> dict[str, Any]:
    calls = [{**call, "type": "function"} if _is_untyped(call) else call for call in message["tool_calls"]]
    return {**message, "tool_calls": calls}
