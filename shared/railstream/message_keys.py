"""The keys and words of OpenAI's messages and request options that say nothing of their own.

Whatever is not in these tables, or stands in another place than theirs, is a text that rails read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from railstream.provider_options import SAFE

Path = tuple[str | int, ...]
"""The keys and positions that lead to a place in a message, or in request options."""

KNOWN_KEYS: Final = frozenset({
    "role", "content", "type", "text", "name", "refusal", "tool_calls", "function_call", "tool_call_id", "id", "index",
    "function", "custom", "arguments", "input", "image_url", "url", "detail", "input_audio", "data", "format", "file",
    "file_data", "file_id", "filename", "audio", "reasoning_content", "reasoning", "thinking", "signature",
    "transcript", "cache_control", "ttl", "annotations", "prefix", "extra_content", "google", "thought_signature",
    "source",
    "media_type", "input_text", "output_text", "input_image", "input_file", "document", "title", "context",
    "tools", "functions", "description", "parameters", "strict", "properties", "required", "items", "enum", "const",
    "default", "anyOf", "oneOf", "allOf", "not", "$ref", "$defs", "definitions", "additionalProperties", "pattern",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems",
    "uniqueItems", "multipleOf", "nullable", "examples", "response_format", "json_schema", "schema", "tool_choice",
    "parallel_tool_calls", "prediction", "metadata", "user", "stop", "logit_bias", "logprobs", "top_logprobs", "seed",
    "temperature", "top_p", "top_k", "n", "max_tokens", "max_completion_tokens", "presence_penalty",
    "frequency_penalty", "stream_options", "include_usage", "service_tier", "store", "reasoning_effort", "verbosity",
    "modalities", "voice", "web_search_options", "grammar", "syntax", "definition", "safety_identifier",
    "prompt_cache_key", "allowed_tools", "mode", "model",
}) | SAFE  # fmt: skip
"""Keys of messages and request options. Any other key could carry text, and is read as one."""
_SCHEMA_TYPES: Final = ("object", "string", "number", "integer", "boolean", "array", "null")
_LEVELS: Final = ("none", "minimal", "low", "medium", "high", "xhigh")
CLOSED: Final[Mapping[str, frozenset[str]]] = {
    key: frozenset(words)
    for key, words in {
        "role": ("system", "developer", "user", "assistant", "tool", "function", "context"),
        "type": (
            *_SCHEMA_TYPES, "text", "refusal", "image_url", "input_audio", "input_text", "output_text", "input_image",
            "input_file", "file", "thinking", "redacted_thinking", "custom", "function", "context", "content",
            "json_object", "json_schema", "ephemeral", "audio", "grammar", "allowed_tools", "base64", "url", "document",
            "image", "tool_use", "tool_result",
        ),
        "format": ("wav", "mp3", "flac", "opus", "pcm16", "date-time", "date", "time", "email", "uri", "uuid"),
        "syntax": ("lark", "regex"),
        "detail": ("auto", "low", "high"),
        "tool_choice": ("none", "auto", "required", "any"),
        "mode": ("auto", "required"),
        "service_tier": ("auto", "default", "flex", "priority", "scale"),
        "reasoning_effort": _LEVELS,
        "verbosity": ("low", "medium", "high"),
        "modalities": ("text", "audio"),
    }.items()
}  # fmt: skip
"""Values that say nothing of their own, each under its key; anywhere else the same word is a text."""
FREE: Final = frozenset(
    {
        "metadata",
        "arguments",
        "input",
        "enum",
        "const",
        "default",
        "examples",
        "required",
        "logit_bias",
        "user",
    }
)
"""Keys whose values are the client's own to the last one: no word or key in them is the protocol's."""
NAMING: Final = frozenset({"properties", "$defs", "definitions"})
"""Keys of a schema whose values have names as their keys."""


def is_closed(word: str, path: Path) -> bool:
    """Whether it is a word of the protocol, in a place where nothing but such words belongs."""
    at = len(path) - 1 if path and isinstance(path[-1], str) else len(path) - 2  # an item of a list has the list's key
    if at < 0 or word not in CLOSED.get(str(path[at]), ()):
        return False
    return not _is_name(path, at) and not is_free(path[:at])


def is_free(path: Path) -> bool:
    """Whether it stands in what is the client's own: under a key of `FREE`, or under one that nobody knows."""
    return any(
        isinstance(step, str) and (step in FREE or step not in KNOWN_KEYS) and not _is_name(path, at)
        for at, step in enumerate(path)
    )


def _is_name(path: Path, at: int) -> bool:
    """Whether a step is a name of a schema, not a key of the protocol."""
    return at > 0 and path[at - 1] in NAMING
