"""Read a text as a person reads it: the form in which terms and detectors look for their matches.

Compatibility forms (NFKC) and look-alikes become the plain character, invisible characters, decorating marks and marks
of markdown are skipped, and a run of white space counts as one space. HTML entities stay as they are. Each folded
character stands for one character of the text, or for a part of one, so that a match is rewritten exactly where it is.

A text folds from left to right and a character never changes what stands before it, so the folded text is the same
however the text arrives.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from railstream_engine.rails.matching.confusables import CONFUSABLES

SKIPPED_AT_ONCE: Final = 256
"""Skipped characters, less the others between them, from which on a `BREAK` is put: what is held back stays bounded."""
BREAK: Final = "\0"
"""Stands in a folded text where too many characters were skipped. NUL itself is skipped, so it is never the text's."""
MARKDOWN: Final = frozenset("*_`~")
_MARK: Final = "\1"
"""In place of what a combining character folds to: that depends on the letter before it."""
_MOST_UNITS: Final = 8192  # characters whose folded form is remembered
_LAST: Final = 0x2FFFF
"""No character behind it folds to another one."""
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
"""Categories of what no font draws as a letter: controls, half surrogate pairs, private use, and what is unassigned."""
_BLANK_LETTERS: Final = frozenset("\u115f\u1160\u3164\uffa0\u0640\ufffc\ufffd")
"""Hangul fillers, which have no glyph; the tatweel, which lengthens a word; the object and replacement characters."""
_SELECTORS: Final = ((0x034F, 0x034F), (0x180B, 0x180F), (0xFE00, 0xFE0F), (0xFFF0, 0xFFF8), (0xE0000, 0xE0FFF))
_ANY_LETTERS_MARKS: Final = (
    (0x0300, 0x036F),
    (0x0483, 0x0489),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE20, 0xFE2F),
)
"""Combining characters of no script of their own: behind any letter they decorate it."""
_DECORATED: Final = range(0x1E00, 0x1E9A)  # composed Latin letters that hardly any language writes


class Folded(NamedTuple):
    """A piece of text, folded."""

    text: str
    starts: Sequence[int]
    """Where in the piece the character begins (and, one further, ends) that each folded one stands for."""
    breaks: Sequence[int]
    """Where in ``text`` there is a `BREAK`."""
    skipped: int
    """What counts for `SKIPPED_AT_ONCE` in the piece that follows."""


class Folding:
    """``spellings``: an accent that occurs in them counts; any other combining one is decoration.

    ``markdown``: the characters to skip as marks of markdown.
    """

    def __init__(self, spellings: Iterable[str] = (), *, markdown: frozenset[str] = MARKDOWN) -> None:
        letters = {letter for spelling in spellings for letter in unicodedata.normalize("NFC", spelling)}
        composed = {letter: unicodedata.normalize("NFD", letter) for letter in letters}
        self._units = _Units({one: parts for one, parts in composed.items() if _is_accented(parts)}, markdown)
        parts = ["".join(self._units.plain(part) for part in unit) for unit in self._units.spelled.values()]
        self._accents = {pair for unit in parts for pair in pairwise(unit)}
        self.accents = frozenset(mark for _, mark in self._accents)
        self.plain = frozenset(map(chr, range(32, 127))) - markdown
        """A text of these is its own folded form, but for spaces that follow each other."""

    def fold(self, text: str) -> str:
        return self.read(text, "", 0).text

    def read(self, more: str, last: str, skipped: int) -> Folded:
        """Fold what follows ``last``, the last folded character, and so many skipped ones."""
        if self.plain.issuperset(more) and "  " not in more and not (last == " " and more[:1] == " "):
            return Folded(more, range(len(more)), (), max(0, skipped - len(more)))
        folded: list[str] = []
        starts: list[int] = []
        breaks: list[int] = []
        units = self._units
        for at, character in enumerate(more):
            unit = units[character]
            if unit == " ":
                unit = "" if last == " " else " "
            elif unit == _MARK:
                unit = self._mark(character, last)
            if not unit:
                skipped += 1
                if skipped <= SKIPPED_AT_ONCE:
                    continue
                unit, skipped = BREAK, 0
                breaks.append(len(folded))
            elif skipped:
                skipped -= 1
            folded += unit
            starts += (at,) * len(unit)
            last = unit[-1]
        return Folded("".join(folded), starts, breaks, skipped)

    def _mark(self, mark: str, last: str) -> str:
        """A combining character: kept where it spells a letter, skipped where it decorates one."""
        if (last, mark) in self._accents:
            return mark
        decorates = last.isascii() or _is_in(mark, _ANY_LETTERS_MARKS)
        return "" if decorates else mark

    def originals(self, folded: frozenset[str] | None) -> frozenset[str] | None:
        """The characters that fold to something with one of these in it; ``None`` where that may be any."""
        if folded is None or any(one in " \0" or unicodedata.category(one)[0] == "M" for one in folded):
            return None
        units = self._units
        return folded | {one for one in (*_foldable(), *units.spelled) if not folded.isdisjoint(units[one])}


class _Units(dict[str, str]):
    """What each character folds to by itself; empty: it is skipped."""

    def __init__(self, spelled: dict[str, str], markdown: frozenset[str]) -> None:
        self._markdown = markdown
        self.spelled = spelled
        """Accented letters that stand as a letter and its accents, as both ways of writing them then read the same."""

    def __missing__(self, character: str) -> str:
        unit = self._unit(character)
        if len(self) < _MOST_UNITS:
            self[character] = unit
        return unit

    def _unit(self, character: str) -> str:
        if character in self.spelled:
            return "".join(map(self.plain, self.spelled[character]))
        if character.isspace() or character == "\u2800":  # and the empty Braille pattern
            return " "
        if unicodedata.category(character) in _INVISIBLE or character in _BLANK_LETTERS:
            return ""
        if _is_in(character, _SELECTORS):
            return ""
        if unicodedata.category(character) in ("Mn", "Me", "Mc"):
            return _MARK
        return "".join(map(self.plain, _compatible(character)))

    def plain(self, character: str) -> str:
        if character.isdecimal():
            return str(unicodedata.decimal(character))
        plain = CONFUSABLES.get(character, character)
        return "" if plain in self._markdown else plain


def _compatible(character: str) -> str:
    """NFKC of one character, and the bare letter of a decorated one."""
    if character in CONFUSABLES:
        return character
    if ord(character) in _DECORATED:
        return "".join(one for one in unicodedata.normalize("NFKD", character) if not unicodedata.combining(one))
    compatible = unicodedata.normalize("NFKC", character)
    if compatible[0] == " ":  # an accent that stands alone
        return character
    return "".join(one for one in compatible if not _is_in(one, _SELECTORS))


def _is_accented(parts: str) -> bool:
    return len(parts) > 1 and all(unicodedata.combining(mark) for mark in parts[1:])


def _is_in(character: str, ranges: Iterable[tuple[int, int]]) -> bool:
    code = ord(character)
    return any(first <= code <= last for first, last in ranges)


@lru_cache(maxsize=1)
def _foldable() -> tuple[str, ...]:
    """Every character that may fold to another one; the composed Hangul and Han, which never do, left out."""
    characters = map(chr, range(0x80, _LAST + 1))
    return tuple(
        one
        for one in characters
        if one in CONFUSABLES or one.isdecimal() or ord(one) in _DECORATED or unicodedata.decomposition(one)
    )
