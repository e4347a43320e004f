"""Decode the JSON of a delta as providers really send it: half a surrogate pair is legal JSON, and no legal text.

A provider may cut an emoji between two deltas: ``{"content":"\\ud83d"}`` and then ``{"content":"\\ude00"}``. msgspec
refuses the first one. Decoded here, the halves stand in the strings as they came; `well_formed` joins halves that
meet and replaces what has no other half, so that the text can be stored and sent.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_HALF = re.compile("[\ud800-\udfff]")


def decode_delta(data: bytes) -> dict[str, Any]:
    """The members of a delta, of a choice's fields, or of any other JSON object of a provider.

    Raises:
        ValueError: it is no JSON object. The message holds none of its bytes.
    """
    try:
        return _decode(data)
    except (msgspec.MsgspecError, RecursionError):
        pass
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"a delta of {len(data)} bytes is no JSON object")
    return found


def text_of(delta: dict[str, Any]) -> str:
    """The content of a delta, its surrogate halves as they came; empty when it has none that is text."""
    content = delta.get("content")
    return content if isinstance(content, str) else ""


def joined(text: str) -> str:
    """The text with its surrogate halves joined; what has no other half becomes U+FFFD."""
    if _HALF.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def well_formed(value: Any) -> Any:
    """The same JSON value with every string of it `joined`."""
    if isinstance(value, str):
        return joined(value)
    if isinstance(value, dict):
        return {joined(name): well_formed(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [well_formed(inner) for inner in value]
    return value
