"""Tokens as providers count them: read into `TokenCount`, whose buckets are inclusive, with faults of the form named.

Counts are cumulative and the latest hold, but for zeros: some gateways end a stream with a usage of zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from railstream.errors import CallError

from railstream_engine.providers.port import TokenCount

MOST_TOKENS: Final = 2**53
"""Beyond it JSON numbers are not exact in every client."""


class UsageCounts:
    """OpenAI's usage objects of one answer, one after the other.

    ``thoughts_in_total``: tokens of reasoning are those of the total that are neither prompt nor completion.
    """

    def __init__(self, *, thoughts_in_total: bool = False) -> None:
        self._thoughts_in_total = thoughts_in_total
        self.came = False

    def read(self, usage: Any) -> TokenCount | None:
        """The counts; ``None`` for zeros after real ones. Raises ``CallError`` for a field of another type."""
        if not isinstance(usage, dict):
            raise CallError(f"the provider sent a usage that is no object but a {_kind(usage)}", code="provider")
        tokens = token_count(usage, thoughts_in_total=self._thoughts_in_total)
        zeros = not tokens.input_tokens and not tokens.output_tokens
        if zeros and self.came:
            return None
        self.came = True
        return tokens


def token_count(usage: dict[str, Any], *, thoughts_in_total: bool = False) -> TokenCount:
    """OpenAI's usage object as inclusive buckets."""
    usage = _with_cache(_with_thoughts(usage, always=thoughts_in_total))
    prompt, completion = part_of(usage, "prompt_tokens_details"), part_of(usage, "completion_tokens_details")
    return TokenCount(
        input_tokens=counted(usage, "prompt_tokens"),
        output_tokens=counted(usage, "completion_tokens"),
        cached_input_tokens=counted(prompt, "cached_tokens"),
        cache_write_input_tokens=counted(prompt, "cache_write_tokens"),
        reasoning_tokens=counted(completion, "reasoning_tokens"),
        raw=usage,
    )


def _with_thoughts(usage: dict[str, Any], *, always: bool) -> dict[str, Any]:
    """OpenAI's usage object as OpenAI fills it: the completion holds what was thought.

    A provider that counts its thoughts beside the completion is known by its total, or by a completion that is smaller.
    """
    prompt, completion = counted(usage, "prompt_tokens"), counted(usage, "completion_tokens")
    details = part_of(usage, "completion_tokens_details")
    thought = counted(details, "reasoning_tokens") or counted(usage, "reasoning_tokens")
    beside = counted(usage, "total_tokens") - prompt - completion
    if beside > 0 and (always or beside == thought):
        thought = beside
    elif thought <= completion:
        return usage
    return {
        **usage,
        "completion_tokens": completion + thought,
        "total_tokens": prompt + completion + thought,
        "completion_tokens_details": {**details, "reasoning_tokens": thought},
    }


def _with_cache(usage: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's usage object whose prompt holds what the cache had: a smaller one is counted beside it."""
    prompt, details = counted(usage, "prompt_tokens"), part_of(usage, "prompt_tokens_details")
    whole = holding(prompt, counted(details, "cached_tokens"), counted(details, "cache_write_tokens"))
    if whole == prompt:
        return usage
    return {**usage, "prompt_tokens": whole, "total_tokens": whole + counted(usage, "completion_tokens")}


def holding(whole: int, *parts: int) -> int:
    """A count that holds its parts. One that is smaller than they are was counted beside them."""
    return whole if sum(parts) <= whole else whole + sum(parts)


def counted(usage: Mapping[str, Any], name: str) -> int:
    """A count of tokens; 0 where there is none. Raises ``CallError`` for what is no count."""
    value = usage.get(name)
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise CallError(f"the provider sent a usage whose {name} is no count but a {_kind(value)}", code="provider")
    if not 0 <= value <= MOST_TOKENS:
        message = f"the provider sent a usage whose {name} is {value:.3g}; counts from 0 to {MOST_TOKENS:,} are read"
        raise CallError(message, code="provider")
    return value


def part_of(usage: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object inside a usage object. Raises ``CallError`` for what is none."""
    value = usage.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CallError(f"the provider sent a usage whose {name} is no object but a {_kind(value)}", code="provider")
    return value


def kept(before: dict[str, Any], counts: Mapping[str, Any]) -> dict[str, Any]:
    """The counts after those before: what is not said again, or said with zero, holds."""
    given = {name: count for name, count in counts.items() if count is not None}
    return before | {name: count for name, count in given.items() if count or name not in before}


def _kind(value: object) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "text", list: "list", dict: "object"}
    return names.get(type(value), "null")
