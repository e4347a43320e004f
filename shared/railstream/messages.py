"""What a message says: the one reading of OpenAI's messages that rails, prompts, limits and views share.

`text_of` is what a person would call its text. `texts_in` is everything in it that a model can read: every string and
every unknown key counts as text, unless it belongs to a closed set.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

Message = Mapping[str, Any]
Path = tuple[str | int, ...]

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
})  # fmt: skip
"""Keys of messages and request options. Any other key could carry text, and is read as one."""
KNOWN_WORDS: Final = frozenset({
    "system", "developer", "user", "assistant", "tool", "function", "context", "text", "refusal", "image_url",
    "input_audio", "input_text", "output_text", "input_image", "input_file", "file", "thinking", "redacted_thinking",
    "custom", "object", "string", "number", "integer", "boolean", "array", "null", "auto", "none", "required", "any",
    "json_object", "json_schema", "low", "medium", "high", "minimal", "default", "flex", "priority", "scale", "content",
    "wav", "mp3", "flac", "opus", "pcm16", "ephemeral", "audio", "grammar", "lark", "regex", "allowed_tools", "base64",
    "url", "date-time", "date", "time", "email", "uri", "uuid", "document", "image",
})  # fmt: skip
"""Values of ``role``, ``type``, ``format`` and the like, which say nothing of their own."""
_MEDIA: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,([A-Za-z0-9+/_=\s-]*)")
_ID: Final = re.compile(r"[A-Za-z0-9_.:|-]{1,64}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{512,}={0,2}")
_TEXT_MEDIA: Final = ("text/", "application/json", "application/xml", "application/x-", "application/yaml")


class Text(NamedTuple):
    """One text of a value: where it stands, and what it says."""

    path: Path
    text: str
    fixed: bool = False
    """It cannot be rewritten where it stands: a key, or the text inside of an encoded file."""


def parts_of(message: Message) -> list[str]:
    """The texts of a message's content, part by part: a string is one part, ``null`` is none."""
    content = message.get("content")
    if isinstance(content, str):
        return [content] if content else []
    found = []
    for part in content if isinstance(content, Sequence) and not isinstance(content, bytes) else ():
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, Mapping) else None
        if isinstance(text, str) and text:
            found.append(text)
    return found


def text_of(message: Message) -> str:
    """The text of a message's content. Parts stand in lines of their own: a model does not read them as one word."""
    return "\n".join(parts_of(message))


def last_text(messages: Sequence[Message], role: str) -> str:
    """The text of the last message of a role; empty when there is none."""
    return next((text_of(message) for message in reversed(messages) if message.get("role") == role), "")


def texts_in(value: Any) -> list[Text]:
    """Every text of a message, or of request options, in the order in which it stands."""
    return list(_walk(value, ()))


def other_texts(message: Message) -> list[str]:
    """What a message says beside its content: names, calls, file names, unknown keys; ids of calls are no text."""
    return [text.text for text in texts_in(message) if not (_is_content(text) or _is_id(text))]


def _is_content(text: Text) -> bool:
    """Whether it is what `parts_of` gives."""
    path = text.path
    if text.fixed or path[:1] != ("content",):
        return False
    return len(path) <= 2 or (len(path) == 3 and path[2] == "text")


def _is_id(text: Text) -> bool:
    return text.path[-1:] in (("id",), ("tool_call_id",)) and _ID.fullmatch(text.text) is not None


def replaced(value: Any, texts: Mapping[Path, str]) -> Any:
    """A copy of the value in which the texts at these paths are others."""
    if () in texts:
        return texts[()]
    heads: dict[str | int, dict[Path, str]] = {}
    for path, text in texts.items():
        heads.setdefault(path[0], {})[path[1:]] = text
    if isinstance(value, Mapping):
        return {name: replaced(item, heads[name]) if name in heads else item for name, item in value.items()}
    return [replaced(item, heads[at]) if at in heads else item for at, item in enumerate(value)]


def _walk(value: Any, path: Path) -> Iterator[Text]:
    if isinstance(value, str):
        yield from _string(value, path)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name not in KNOWN_KEYS:
                yield Text(path, str(name), fixed=True)
            yield from _walk(item, (*path, name))
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for at, item in enumerate(value):
            yield from _walk(item, (*path, at))
    elif isinstance(value, int | float) and not isinstance(value, bool) and path and path[-1] not in KNOWN_KEYS:
        yield Text(path, str(value), fixed=True)


def _string(value: str, path: Path) -> Iterator[Text]:
    if not value or (value in KNOWN_WORDS and path and path[-1] not in ("content", "text")):
        return
    media = _MEDIA.fullmatch(value) if value.startswith("data:") else None
    if media is not None:
        if (media[1] or "text/plain").startswith(_TEXT_MEDIA):
            yield Text(path, _decoded(media[2]), fixed=True)
    elif not (path and path[-1] in ("data", "file_data") and _BASE64.fullmatch(value)):
        yield Text(path, value)


def _decoded(data: str) -> str:
    """The text of an encoded file; the encoded text itself where it is none."""
    try:
        return base64.b64decode(data.replace("-", "+").replace("_", "/"), validate=False).decode()
    except (binascii.Error, ValueError):
        return data
