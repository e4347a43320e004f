"""OpenAI's usage object of an answer: the provider's own, or its known figures alone on a guarded request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from railstream_engine.providers.port import TokenCount

_FIGURES: Final = frozenset({
    "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "cache_write_tokens", "audio_tokens",
    "image_tokens", "text_tokens", "video_tokens", "reasoning_tokens", "accepted_prediction_tokens",
    "rejected_prediction_tokens", "input_tokens", "output_tokens", "cache_read_input_tokens",
    "cache_creation_input_tokens", "prompt_cache_hit_tokens", "prompt_cache_miss_tokens", "num_sources_used",
    "cost", "upstream_inference_cost", "queue_time", "prompt_time", "completion_time", "total_time",
})  # fmt: skip
_DETAILS: Final = frozenset(
    {
        "prompt_tokens_details",
        "completion_tokens_details",
        "input_tokens_details",
        "output_tokens_details",
        "cost_details",
    }
)


def usage_object(tokens: TokenCount, *, guarded: bool) -> dict[str, Any]:
    """``guarded``: keys that nobody knows are left out, and so is what is no number, since either could be text."""
    if tokens.raw:
        return known_figures(tokens.raw) if guarded else tokens.raw
    return {
        "prompt_tokens": tokens.input_tokens,
        "completion_tokens": tokens.output_tokens,
        "total_tokens": tokens.input_tokens + tokens.output_tokens,
    }


def known_figures(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The known keys of a usage object that have a number, and its known groups of such keys."""
    found = _figures(usage)
    groups = {name: _figures(usage[name]) for name in _DETAILS & usage.keys() if isinstance(usage[name], Mapping)}
    return found | {name: group for name, group in groups.items() if group}


def _figures(usage: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in usage.items() if name in _FIGURES and _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
