"""Parts of an answer in the form of chat completions, from the values of the Responses API."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from railstream_engine.providers.port import Delta, TokenCount
from railstream_engine.providers.usage_counts import counted, holding, part_of

_encode = msgspec.json.Encoder().encode


def delta_of(field: str, text: str) -> Delta:
    """A delta of one text. ``field``: ``content``, ``refusal`` or ``reasoning_content``."""
    try:
        raw = _encode({field: text})
    except UnicodeEncodeError:  # half a surrogate pair: legal JSON when escaped
        raw = json.dumps({field: text}).encode()
    if field == "content":
        return Delta(0, raw, text, exact=True)
    return Delta(0, raw, refusal=text, exact=True) if field == "refusal" else Delta(0, raw, reasoning=text, exact=True)


def tool_delta(fragment: dict[str, Any]) -> Delta:
    """A delta of one fragment of a tool call."""
    try:
        tools = _encode([fragment])
    except UnicodeEncodeError:
        tools = json.dumps([fragment]).encode()
    return Delta(0, b'{"tool_calls":%b}' % tools, tools=tools)


def token_count(usage: dict[str, Any]) -> TokenCount:
    """The usage of a response as inclusive buckets, and in the form of chat completions."""
    given, generated = counted(usage, "input_tokens"), counted(usage, "output_tokens")
    of_input, of_output = part_of(usage, "input_tokens_details"), part_of(usage, "output_tokens_details")
    cached, reasoning = counted(of_input, "cached_tokens"), counted(of_output, "reasoning_tokens")
    written = counted(of_input, "cache_write_tokens")
    given, generated = holding(given, cached, written), holding(generated, reasoning)
    raw = {
        "prompt_tokens": given,
        "completion_tokens": generated,
        "total_tokens": given + generated,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    return TokenCount(given, generated, cached, written, reasoning, raw)
