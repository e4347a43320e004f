"""The order in which a text with directional overrides is shown: `\\u202enetsgnut` is seen as ``tungsten``.

The parts of the Unicode bidirectional algorithm (UAX #9) that move letters of a left-to-right script: overrides,
embeddings and isolates, and the reversal of each level (rule L2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

from railstream.errors import RailError

MOST_CONTROLS: Final = 20_000
"""Directional characters and line ends of a text that has overrides."""
_OVERRIDES: Final = re.compile("[\u202d\u202e]")
_OPENING: Final = {
    "\u202a": (0, False), "\u202b": (1, False), "\u202d": (0, True), "\u202e": (1, True),
    "\u2066": (0, False), "\u2067": (1, False), "\u2068": (0, False),
}  # fmt: skip
"""Embeddings, overrides and isolates: whether they are right to left, and whether letters follow them."""
_CLOSING: Final = "\u202c\u2069"
_DEEPEST: Final = 125  # levels: UAX #9, BD2
_LINE_ENDS: Final = "\n\r\x1c\x1d\x1e\u2028\u2029\x85"
_CONTROLS: Final = re.compile(f"([{''.join(_OPENING)}{_CLOSING}{_LINE_ENDS}])")
_Units: TypeAlias = "list[str | _Units]"
"""What is shown at one level: texts, and in lists what is shown at the next one."""


def has_override(text: str) -> bool:
    return not text.isascii() and _OVERRIDES.search(text) is not None


def without_overrides(text: str) -> str:
    """The text without what would show its letters in another order."""
    return _OVERRIDES.sub("", text)


def shown(text: str) -> str:
    """The text in the order in which its letters are shown, without directional characters.

    Raises:
        RailError: it has more than `MOST_CONTROLS` directional characters.
    """
    tokens = _CONTROLS.split(text)
    if len(tokens) // 2 > MOST_CONTROLS:
        raise RailError(
            f"a text with directional overrides has {len(tokens) // 2} directional characters and line ends, of which "
            f"{MOST_CONTROLS} are read; leave the overrides (U+202D, U+202E) out"
        )
    frames: list[_Units] = [[]]
    opened: list[tuple[int, bool]] = [(0, False)]
    for token in tokens:
        level, overrides = opened[-1]
        if token in _OPENING:
            right_to_left, forced = _OPENING[token]
            level += 1 + ((level + 1) % 2 != right_to_left)
            if level <= _DEEPEST:
                opened.append((level, forced))
        elif token and token in _CLOSING:
            opened = opened[:1] if len(opened) < 3 else opened[:-1]
        elif token and token in _LINE_ENDS:
            opened = [(0, False)]
            _at_level(frames, 0).append(token)
        elif token:
            own = level if overrides or level % 2 == 0 else level + 1
            _at_level(frames, own).append(token[::-1] if own % 2 else token)
    return "".join(_in_order(frames[0], 0))


def _at_level(frames: list[_Units], level: int) -> _Units:
    """The units of a level, whose lists in between are opened where there are none."""
    del frames[level + 1 :]
    while len(frames) <= level:
        inner: _Units = []
        frames[-1].append(inner)
        frames.append(inner)
    return frames[-1]


def _in_order(units: _Units, level: int) -> Sequence[str]:
    found: list[str] = []
    for unit in reversed(units) if level % 2 else units:
        found += [unit] if isinstance(unit, str) else _in_order(unit, level + 1)
    return found
