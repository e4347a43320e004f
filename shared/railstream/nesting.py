"""How deep JSON is nested, told without parsing it: every parser and encoder recurses, and each has another limit."""

from __future__ import annotations

import re
from typing import Final

MOST_NESTED: Final = 128
"""Levels that are read of what a provider or a client sends."""
_TOKENS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
"""Strings, also one without an end, and brackets. Nothing is tried twice: the time is linear whatever comes."""
_CHANGES: Final = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}


def nested_deeper(data: bytes, most: int) -> bool:
    """Whether arrays and objects stand in each other more than ``most`` levels deep."""
    if data.count(b"{") + data.count(b"[") <= most:
        return False
    depth = 0
    for match in _TOKENS.finditer(data):
        depth += _CHANGES.get(match[0], 0)
        if depth > most:
            return True
    return False
