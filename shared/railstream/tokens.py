"""Estimates of tokens, for where no provider has counted: before a call, and after one that was cut."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

CHARACTERS_PER_TOKEN: Final = 4
"""Of English prose, by OpenAI's rule of thumb; other languages and code have fewer."""


def input_estimate(messages: Sequence[Mapping[str, Any]]) -> int:
    """Tokens of a prompt, by the characters of its texts. At least one."""
    return sum(map(_characters, messages)) // CHARACTERS_PER_TOKEN + 1


def output_estimate(chunks: int, characters: int) -> int:
    """Tokens of an answer: a chunk holds at least one, and a long chunk as many as its characters say."""
    return max(chunks, math.ceil(characters / CHARACTERS_PER_TOKEN))


def _characters(value: Any) -> int:
    """Of every text in a message, however it is nested."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_characters(item) for name, item in value.items() if name not in ("role", "type"))
    if isinstance(value, Sequence):
        return sum(map(_characters, value))
    return 0
