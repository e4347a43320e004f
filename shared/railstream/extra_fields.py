"""What a provider says beside the delta, and which of it is kept: a closed list, for the answer and for each choice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

OF_THE_ANSWER: Final = (
    "system_fingerprint", "service_tier", "citations", "search_results", "prompt_filter_results", "provider",
)  # fmt: skip
"""OpenAI's, Perplexity's, Azure's and OpenRouter's. They stand beside ``choices``."""
OF_A_CHOICE: Final = ("content_filter_results", "stop_reason", "matched_stop", "native_finish_reason")
"""Azure's, vLLM's, SGLang's and OpenRouter's. They stand beside ``finish_reason``."""

_TIERS: Final = frozenset({"auto", "default", "flex", "priority", "scale", "standard", "standard_only", "on_demand"})
_FILTER_WORDS: Final = frozenset({
    "prompt_index", "content_filter_results", "content_filter_result", "hate", "self_harm", "sexual", "violence",
    "jailbreak", "indirect_attack", "profanity", "protected_material_code", "protected_material_text", "filtered",
    "detected", "severity", "safe", "low", "medium", "high",
})  # fmt: skip
"""Azure's: https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter"""
_FILTERS: Final = frozenset({"prompt_filter_results", "content_filter_results"})
_NUMBERED: Final = frozenset({"stop_reason", "matched_stop"})
_LARGEST: Final = 10_000_000
"""A token's number is below it."""
FINGERPRINT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""One that reads like this may leave a guarded answer, once local rails have read it."""


def closed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those whose every word belongs to a closed set: what may leave a guarded answer without being read."""
    return {name: value for name, value in fields.items() if _is_closed(name, value)}


def _is_closed(name: str, value: Any) -> bool:
    if name == "service_tier":
        return isinstance(value, str) and value in _TIERS
    if name in _NUMBERED:
        return isinstance(value, int) and 0 <= value < _LARGEST
    return name in _FILTERS and all(word in _FILTER_WORDS for word in _words(value))


def _words(value: Any) -> Iterator[str]:
    """Every word of a value, keys included; a number but a small one is a word."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _words(item)
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)
    elif not (value is None or isinstance(value, bool) or (isinstance(value, int) and 0 <= value < 128)):
        yield str(value)
