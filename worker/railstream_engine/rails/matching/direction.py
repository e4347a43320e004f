"""Text whose direction is overridden: it is shown in another order than it is stored in.

U+202E makes even Latin letters run from right to left (Unicode Standard Annex #9): `netsgnut` behind one is shown as
`tungsten`. A request's text is read as it is shown too; a guarded answer leaves without its overrides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

RIGHT_TO_LEFT: Final = "\u202e"
OVERRIDES: Final = "\u202d\u202e"
_OPENING: Final = frozenset("\u202a\u202b\u202d\u202e\u2066\u2067\u2068")
_CLOSING: Final = frozenset("\u202c\u2069")
_PARAGRAPHS: Final = frozenset("\n\r\x1c\x1d\x1e\x85\u2029")
_DEEPEST: Final = 125
"""Levels of UAX #9; a control that would open another one is ignored."""


def is_overridden(text: str) -> bool:
    """Whether some of the text may be shown in another order."""
    return not text.isascii() and RIGHT_TO_LEFT in text


def without_overrides(text: str) -> str:
    """The text in the order in which it is stored, for whoever shows it."""
    if text.isascii():
        return text
    for control in OVERRIDES:
        text = text.replace(control, "")
    return text


def as_shown(text: str) -> str:
    """The text in the order in which it is shown, without the controls that say so."""
    levels: list[tuple[bool, list[str]]] = [(False, [])]
    for character in text:
        if character in _OPENING:
            if len(levels) <= _DEEPEST:
                levels.append((character == RIGHT_TO_LEFT, []))
        elif character in _CLOSING:
            _close(levels, to=max(1, len(levels) - 1))
        else:
            if character in _PARAGRAPHS:
                _close(levels, to=1)
            levels[-1][1].append(character)
    _close(levels, to=1)
    return "".join(levels[0][1])


def _close(levels: list[tuple[bool, list[str]]], *, to: int) -> None:
    while len(levels) > to:
        backwards, units = levels.pop()
        levels[-1][1].append(_in_order(backwards, units))


def _in_order(backwards: bool, units: Sequence[str]) -> str:
    return "".join(reversed(units) if backwards else units)
