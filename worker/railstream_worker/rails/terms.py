"""Blocked terms over a text that is still arriving: thousands of literals, found by one automaton.

What is held back is the longest tail of the text that is the beginning of a term.
"""

from __future__ import annotations

from collections.abc import Sequence

from ahocorasick_rs import AhoCorasick

from railstream_worker.rails.matching import UNDECIDED, Match


class TermSet:
    """The leftmost term wins, of those that start at one position the longest."""

    def __init__(
        self, terms: Sequence[str], *, ignore_case: bool, whole_words: bool, mask: str = "***", extent_matters: bool
    ) -> None:
        self._fold = _folded if ignore_case else str
        self._terms = sorted({self._fold(term) for term in terms if term}, key=len, reverse=True)
        self._automaton = AhoCorasick(self._terms)
        self._beginnings = frozenset(term[:size] for term in self._terms for size in range(1, len(term)))
        self._longest = len(self._terms[0])
        self._whole_words = whole_words
        self._extent_matters = extent_matters
        self._mask = mask
        self.reach = self._longest + whole_words
        self.context = 1
        # Letters have more forms than two: what folds to the first one is not worth finding out.
        self.first = None if ignore_case else frozenset(term[0] for term in self._terms)

    def find(self, text: str, start: int, final: bool) -> Match:
        tail = self._fold(text[start:])
        hold = len(text) if final else start + self._held(text, start, tail)
        best = Match(hold, UNDECIDED)
        for _, at, end in self._automaton.find_matches_as_indexes(tail, overlapping=True):
            at, end = start + at, start + end
            if at > best.start or not self._starts_word(text, at):
                continue
            ends = self._ends_word(text, end)
            if ends is None and not final:
                if at < best.start or self._extent_matters:
                    best = Match(at, UNDECIDED)
            elif ends is not False and self._better(at, end, best, hold):
                best = Match(at, end)
        return best

    def _better(self, at: int, end: int, best: Match, hold: int) -> bool:
        if at == hold and self._extent_matters:
            return False  # it may become a longer term: which one is masked is not decided yet
        if at == best.start and best.end == UNDECIDED:
            return not self._extent_matters
        return at < best.start or end > best.end

    def _held(self, text: str, start: int, tail: str) -> int:
        """Where in the tail a term may have begun."""
        beginnings = self._beginnings
        length = len(tail)
        for at in range(max(0, length - self._longest + 1), length):
            if tail[at:] in beginnings and self._starts_word(text, start + at):
                return at
        return length

    def _starts_word(self, text: str, at: int) -> bool:
        return not self._whole_words or at == 0 or not (_word(text[at]) and _word(text[at - 1]))

    def _ends_word(self, text: str, end: int) -> bool | None:
        """``None`` when that depends on the character after the text."""
        if not self._whole_words or not _word(text[end - 1]):
            return True
        return None if end == len(text) else not _word(text[end])

    def find_whole(self, text: str, start: int) -> Match | None:
        folded = self._fold(text)
        for at in range(start, len(text)):
            for term in self._terms:
                end = at + len(term)
                whole = self._starts_word(text, at) and self._ends_word(text, min(end, len(text))) is not False
                if whole and folded.startswith(term, at):
                    return Match(at, end)
        return None

    def replacement(self, match: Match, matched: str) -> str:
        return self._mask


def _word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _folded(text: str) -> str:
    """Case folded character by character: the same length, and the same whatever stands beside a character."""
    return text.lower() if text.isascii() else "".join(map(_folded_character, text))


def _folded_character(character: str) -> str:
    folded = character.casefold()
    if len(folded) > 1:  # ß, ŉ: a fold to two letters would shift every later position
        folded = character.lower()
    return folded if len(folded) == 1 else character
