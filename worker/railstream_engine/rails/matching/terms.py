"""Blocked terms over a text that is still arriving: thousands of literals, found by one automaton.

What is held back is the longest tail of the text that is the beginning of a term.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from ahocorasick_rs import AhoCorasick
from railstream.errors import ConfigurationError

from railstream_engine.rails.matching.folding import Folded, Folding
from railstream_engine.rails.matching.match import UNDECIDED, Match
from railstream_engine.rails.matching.search_time import UNLIMITED, Allowance

_SURROGATE = re.compile("[\ud800-\udfff]")
_AT_ONCE = 64  # characters that are searched first; twice as many each time when nothing is found


class TermSet:
    """The leftmost term wins, of those that start at one position the longest."""

    def __init__(
        self,
        terms: Sequence[str],
        *,
        ignore_case: bool,
        whole_words: bool,
        mask: str = "***",
        extent_matters: bool,
        fold: bool = False,
    ) -> None:
        """``fold``: look in the folded text, for the terms folded. Raises ``ConfigurationError`` for an empty one."""
        spellings = [spelling for term in terms for spelling in _spellings(term, ignore_case and fold)]
        self.folding = Folding(spellings) if fold else None
        self._lower = _folded if ignore_case else str
        forms = spellings if self.folding is None else [_form(self.folding, spelling) for spelling in spellings]
        self._terms = sorted({self._lower(form) for form in forms if form}, key=len, reverse=True)
        self._automaton = AhoCorasick(self._terms)
        self._beginnings = frozenset(term[:size] for term in self._terms for size in range(1, len(term)))
        self._firsts = frozenset(term[0] for term in self._terms)
        self._longest = len(self._terms[0])
        self._whole_words = whole_words
        self._accents = self.folding.accents if self.folding is not None else frozenset[str]()
        self._extent_matters = extent_matters
        self._mask = mask
        self.reach = self._longest + (whole_words or bool(self._accents))
        self.context = 1
        self._at_once = max(_AT_ONCE, 2 * self.reach)
        # Letters have more forms than two: what folds to the first one is not worth finding out.
        self.begins = None if ignore_case else self._firsts
        self.first = self.begins if self.folding is None else self.folding.originals(self.begins)

    def find(self, text: str, start: int, final: bool, within: Allowance = UNLIMITED) -> Match:
        """In pieces, since what lies behind a match is looked at again for the next one. Takes no time to speak of."""
        if len(text) - start <= self._at_once:
            return self._find(text, start, len(text), final)
        at_once = self._at_once
        while len(text) - start > at_once:
            found = self._find(text, start, start + at_once, False)
            if found.end != UNDECIDED:
                return found
            start = found.start
            at_once *= 2
        return self._find(text, start, len(text), final)

    def _find(self, text: str, start: int, limit: int, final: bool) -> Match:
        tail = self._lower(text[start:limit])
        hold = limit if final else start + self._held(text, start, tail)
        best = Match(hold, UNDECIDED)
        try:
            found = self._automaton.find_matches_as_indexes(tail, overlapping=True)
        except UnicodeEncodeError:  # half of a surrogate pair
            found = self._automaton.find_matches_as_indexes(_SURROGATE.sub("\ufffd", tail), overlapping=True)
        for _, at, end in found:
            at, end = start + at, start + end
            if at > best.start or not self._starts_word(text, at):
                continue
            ends = self._ends_word(text, end, limit)
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
        beginnings, firsts = self._beginnings, self._firsts
        length = len(tail)
        for at in range(max(0, length - self._longest + 1), length):
            if tail[at] in firsts and tail[at:] in beginnings and self._starts_word(text, start + at):
                return at
        return length

    def _starts_word(self, text: str, at: int) -> bool:
        return not self._whole_words or at == 0 or not (self._word(text[at]) and self._word(text[at - 1]))

    def _ends_word(self, text: str, end: int, limit: int) -> bool | None:
        """``None`` when that depends on the character after the text."""
        if self._whole_words and self._word(text[end - 1]):
            return None if end == limit else not self._word(text[end])
        if self._accents:  # one that follows makes another letter of the term's last
            return None if end == limit else text[end] not in self._accents
        return True

    def _word(self, character: str) -> bool:
        return character.isalnum() or character == "_" or character in self._accents

    def find_whole(self, text: str, start: int) -> Match | None:
        folded = self._lower(text)
        for at in range(start, len(text)):
            for term in self._terms:
                end = at + len(term)
                if not folded.startswith(term, at) or not self._starts_word(text, at):
                    continue
                if self._ends_word(text, end, len(text)) is not False:
                    return Match(at, end)
        return None

    def find_across(self, texts: Sequence[str]) -> Sequence[Match] | None:
        """One pass, whatever the number of texts. Of matches that overlap the leftmost and longest one counts."""
        text = "".join(texts)
        folded = Folded(text, range(len(text)), (), 0) if self.folding is None else self.folding.read(text, "", 0)
        if folded.breaks:
            return None
        edges = self._edges(folded, texts)
        lowered = _SURROGATE.sub("\ufffd", self._lower(folded.text))
        candidates = self._automaton.find_matches_as_indexes(lowered, overlapping=True)
        found: list[Match] = []
        for _, at, end in sorted(candidates, key=lambda match: (match[1], -match[2])):
            if found and folded.starts[at] < found[-1].end:
                continue
            starts = at in edges or self._starts_word(folded.text, at)
            if starts and (end in edges or self._ends_word(folded.text, end, len(folded.text)) is not False):
                found.append(Match(folded.starts[at], folded.starts[end - 1] + 1))
        return found

    def _edges(self, folded: Folded, texts: Sequence[str]) -> set[int]:
        """Where in the folded text one of the texts begins, its first accents skipped, and the end of the last one."""
        edges = {bisect_left(folded.starts, at) for at in accumulate(map(len, texts), initial=0)}
        for at in sorted(edges) if self._accents else ():
            while at < len(folded.text) and folded.text[at] in self._accents:
                at += 1
                edges.add(at)
        return edges

    def replacement(self, match: Match) -> str:
        return self._mask


def _spellings(term: str, cases: bool) -> list[str]:
    """A letter's two cases may look like two different ones: the Greek capital Nu like N, the small nu like v."""
    return [term, term.lower(), term.upper(), term.title()] if cases else [term]


def _form(folding: Folding, term: str) -> str:
    form = folding.fold(term)
    if term and not form.strip():
        raise ConfigurationError(
            f"the term {term!r} is nothing but characters that folding skips; set `fold: false` in rails.config.terms"
        )
    return form


def _folded(text: str) -> str:
    """Case folded character by character: the same length, and the same whatever stands beside a character."""
    return text.lower() if text.isascii() else "".join(map(_folded_character, text))


def _folded_character(character: str) -> str:
    folded = character.casefold()
    if len(folded) > 1:  # ß, ŉ: a fold to two letters would shift every later position
        folded = character.lower()
    return folded if len(folded) == 1 else character
