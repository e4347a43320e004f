"""The order in which a text with directional overrides is shown: `\\u202enetsgnut` is seen as ``tungsten``.

The parts of the Unicode bidirectional algorithm (UAX #9) that move letters of a left-to-right script: overrides,
embeddings and isolates, and the reversal of each level (rule L2).
"""

from __future__ import annotations

import re
from typing import Final

_OVERRIDES: Final = re.compile("[\u202d\u202e]")
_OPENING: Final = {
    "\u202a": (0, False), "\u202b": (1, False), "\u202d": (0, True), "\u202e": (1, True),
    "\u2066": (0, False), "\u2067": (1, False), "\u2068": (0, False),
}  # fmt: skip
"""Embeddings, overrides and isolates: whether they are right to left, and whether letters follow them."""
_CLOSING: Final = "\u202c\u2069"
_DEEPEST: Final = 125  # levels: UAX #9, BD2
_LINE_ENDS: Final = "\n\r\u2028\u2029\x85"


def has_override(text: str) -> bool:
    return not text.isascii() and _OVERRIDES.search(text) is not None


def shown(text: str) -> str:
    """The text in the order in which its letters are shown, without directional characters."""
    lines: list[str] = []
    line: list[tuple[int, str]] = []
    opened: list[tuple[int, bool]] = [(0, False)]
    for character in text:
        level, overrides = opened[-1]
        if character in _LINE_ENDS:
            lines += [_reordered(line), character]
            line, opened = [], [(0, False)]
        elif character in _OPENING:
            right_to_left, forced = _OPENING[character]
            if len(opened) <= _DEEPEST:
                opened.append((level + 1 + ((level + 1) % 2 != right_to_left), forced))
        elif character in _CLOSING:
            opened = opened[:1] if len(opened) < 3 else opened[:-1]

        else:
            line.append((level if overrides or level % 2 == 0 else level + 1, character))
    return "".join((*lines, _reordered(line)))


def _reordered(line: list[tuple[int, str]]) -> str:
    for level in range(max((level for level, _ in line), default=0), 0, -1):
        at = 0
        while at < len(line):
            end = at
            while end < len(line) and line[end][0] >= level:
                end += 1
            line[at:end] = line[at:end][::-1]
            at = end + 1
    return "".join(character for _, character in line)
