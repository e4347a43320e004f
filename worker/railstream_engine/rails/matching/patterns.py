"""Regular expressions over a text that is still arriving.

A match that starts at a position is looked for in the ``reach`` characters from there, as if the text ended after
them. For a pattern whose matches have a greatest length this is exactly `search`; one without gets `BOUND`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import regex
from railstream.errors import ConfigurationError

from railstream_engine.rails.matching.first_characters import first_characters
from railstream_engine.rails.matching.folding import MARKDOWN, Folding
from railstream_engine.rails.matching.match import UNDECIDED, Match
from railstream_engine.rails.matching.open_ended import LOOKAHEADS, most_ways, opened, tokens, widths
from railstream_engine.rails.matching.search_time import OFF_LOOP_SECONDS, UNLIMITED, Allowance, Clock, Pace

BOUND = 256  # characters: what is held back at most for a pattern that has no greatest length of its own
_WIDEST = 4096  # characters: a greatest length up to here is held back whole
_LEAST_CONTEXT = 64  # characters before a position that stay visible to lookbehinds
_QUICK = 20  # characters: too few for a search to need the timeout, which costs more than the search
_QUICK_REPEATS = 8  # the same for a pattern that repeats what can repeat: its time is exponential in these
_FEW_WAYS = 4  # repetitions of a pattern up to which its time for a `_QUICK` text is short
_AT_ONCE = 1024  # characters: searched without the timeout for patterns whose whole reach is that short
_STEP = 256  # characters that are searched at once by all patterns
_AHEAD = 8  # reaches that are searched at once for the next candidate

Accept = Callable[[str], int]
"""How many of the matched characters really are one, such as a card number whose check digit is right; 0: none."""


@dataclass(frozen=True, slots=True)
class PatternSpec:
    pattern: str
    ignore_case: bool = False
    accept: Accept | None = None
    mask: str = "*"
    """What stands in its place when masked."""
    starts: str = ""
    """Inside of a character class that every match starts with: lets a search for many patterns pass over the rest."""
    vetted: bool = False
    """It is known to backtrack little, though it repeats what it repeats."""


class Pattern:
    """One compiled pattern in three forms: as written, open-ended, and open-ended without an end of its own."""

    def __init__(self, spec: PatternSpec, bound: int = BOUND) -> None:
        flags = regex.V0 | (regex.IGNORECASE if spec.ignore_case else 0)
        self.exact = _compile(spec.pattern, flags)
        source = f"(?i){spec.pattern}" if spec.ignore_case else spec.pattern
        self.open_source, wary = opened(spec.pattern, bool(self.exact.flags & regex.VERBOSE))
        flags |= self.exact.flags & ~(regex.VERBOSE | regex.V0 | regex.V1)
        self._open = _compile(_unflagged(self.open_source), flags)
        self._touch = _compile(f"(?:{_unflagged(self.open_source)})(?!)", flags)
        self.flags = flags
        self._accept = spec.accept
        self.starts = spec.starts
        self._wary = wary
        self.quick = _quick(spec)
        self._certain = not wary and spec.accept is None  # a match stays one, whatever follows
        self.reach, self.local = _reach(source, spec.pattern, wary, bound)
        self.context = max(_LEAST_CONTEXT, self.reach if "(?<" in spec.pattern else 0)
        if self.exact.match("") or (widths(source, 0) or (1, 1))[0] == 0:
            raise ConfigurationError(f"pattern {spec.pattern!r} matches the empty text, so it would stop everything")

    def find(self, text: str, start: int, final: bool, extent_matters: bool, clock: Clock | None) -> tuple[int, int]:
        """See `Matcher.find`; ``extent_matters`` when the end of the match is needed, not only that there is one.

        ``clock``: ``None`` where the text is too short to need one.
        """
        length = len(text)
        while start < length:
            limit = min(start + self.reach, length)
            if final and limit == length:
                found, undecided = self.exact.search(text, start, **_limits(clock)), limit
            else:
                found, undecided = self._look(text, start, limit, clock)
            if found is not None and found.start() < undecided:
                if end := self._end(found):
                    return found.start(), end
                start = found.start() + 1
            elif limit == length:
                if found is not None and found.start() == undecided and not extent_matters and self._certain:
                    return found.start(), found.end()
                return undecided, UNDECIDED
            elif undecided > start:
                start = undecided  # all before it is clear; look again with the whole reach of this one in sight
            elif end := self._decide(text, start, limit, clock):
                return start, end
            else:
                start = self._next(text, start + 1, clock)
        return length, UNDECIDED

    def _look(self, text: str, start: int, limit: int, clock: Clock | None) -> tuple[regex.Match[str] | None, int]:
        """The first complete match, and from where on what is there may become one, or a different one."""
        found = self._open.search(text, start, limit, partial=True, **_limits(clock))
        if found is None:
            return None, limit
        if found.partial:
            return None, found.start()
        touching = self._touch.search(text, start, limit, partial=True, **_limits(clock))
        return found, limit if touching is None else touching.start()

    def _decide(self, text: str, at: int, limit: int, clock: Clock | None) -> int:
        """The end of the match at a position whose whole reach is in sight; 0 when there is none."""
        found = self.exact.match(text, at, limit, **_limits(clock))
        return self._end(found) if found is not None else 0

    def _next(self, text: str, start: int, clock: Clock | None) -> int:
        """The next position that may start a match, of those whose whole reach is in sight."""
        ahead = min(len(text), start + _AHEAD * self.reach)
        if self._wary or ahead - start < self.reach:
            return start
        # What matches within its reach also matches in a longer text, so one search clears many positions.
        found = self.exact.search(text, start, ahead, **_limits(clock))
        cleared = ahead - self.reach + 1
        return cleared if found is None else min(found.start(), cleared)

    def _end(self, found: regex.Match[str]) -> int:
        """Where what counts of a match ends; 0 when nothing of it does."""
        at, end = found.span()
        if self._accept is not None and end > at:
            end = at + self._accept(found.group())
        return end if end > at else 0

    def match_whole(self, text: str, at: int) -> int:
        """The end of the match at exactly this position of a complete text, or `UNDECIDED`."""
        limit = min(len(text), at + self.reach)
        return self._decide(text, at, limit, Clock(OFF_LOOP_SECONDS, False)) or UNDECIDED


class PatternSet:
    """Several patterns as one matcher: the leftmost match wins, at one position the pattern that is listed first."""

    def __init__(
        self, specs: Sequence[PatternSpec], *, extent_matters: bool, bound: int = BOUND, fold: bool = False
    ) -> None:
        """``fold``: look in the folded text; the patterns stay as they are written."""
        self._specs = tuple(specs)
        self._patterns = tuple(Pattern(spec, bound) for spec in specs)
        self._extent_matters = extent_matters
        self._pace = Pace()
        self.folding = _folding(self._patterns, specs) if fold else None
        self.reach = max(pattern.reach for pattern in self._patterns)
        self.context = max(pattern.context for pattern in self._patterns)
        self.begins = first_characters(
            (spec.pattern, p.exact.flags) for spec, p in zip(specs, self._patterns, strict=True)
        )
        self.first = self.begins if self.folding is None else self.folding.originals(self.begins)
        self._joint = _joined(self._patterns)
        # Up to here one search for all of them is exact: no pattern that looks further than its own matches has its
        # reach end inside of what is searched.
        self._joint_reach = min((p.reach for p in self._patterns if not p.local), default=_WIDEST)
        self._step = max(_QUICK, min(self._joint_reach, _STEP))
        self._quick = min(p.quick for p in self._patterns)
        # A pattern that looks at few characters from each position cannot backtrack for long.
        if self.reach <= _QUICK <= self._quick and all(p.local for p in self._patterns):
            self._quick = _AT_ONCE

    def find(self, text: str, start: int, final: bool, within: Allowance = UNLIMITED) -> Match:
        if len(text) - start <= self._quick:
            return self._find(text, start, final, None)
        clock = within.start(self._pace)
        try:
            return self._find_in_steps(text, start, final, clock)
        except TimeoutError:
            raise within.ran_out(self._pace) from None
        finally:
            within.stop(clock)

    def _find_in_steps(self, text: str, start: int, final: bool, clock: Clock) -> Match:
        """What lies behind a match is looked at again for the next one, so not much of it is looked at for this one."""
        step = self._step
        while len(text) - start > step:
            found = self._find(text[: start + step], start, False, clock)
            if found.end != UNDECIDED:
                return found
            step = self._step if found.start > start else 2 * step
            start = found.start
        return self._find(text, start, final, clock)

    def _find(self, text: str, start: int, final: bool, clock: Clock | None) -> Match:
        length = len(text)
        if self._joint is not None and not final and length - start <= self._joint_reach:
            if clock is None:
                found = self._joint.search(text, start, partial=True)
            else:
                found = self._joint.search(text, start, partial=True, **_limits(clock))
            if found is None:
                return Match(length, UNDECIDED)
            if found.partial:
                return Match(found.start(), UNDECIDED)
        return self._find_each(text, start, final, clock)

    def _find_each(self, text: str, start: int, final: bool, clock: Clock | None) -> Match:
        best = Match(len(text), UNDECIDED)
        for index, pattern in enumerate(self._patterns):
            at, end = pattern.find(text, start, final, self._extent_matters, clock)
            settles = at == best.start and best.end == UNDECIDED != end and not self._extent_matters
            if at < best.start or settles:
                best = Match(at, end, index)
        return best

    def find_whole(self, text: str, start: int) -> Match | None:
        for at in range(start, len(text)):
            for index, pattern in enumerate(self._patterns):
                end = pattern.match_whole(text, at)
                if end != UNDECIDED:
                    return Match(at, end, index)
        return None

    def find_across(self, texts: Sequence[str]) -> None:
        """Patterns may look around a match."""

    def replacement(self, match: Match) -> str:
        return self._specs[match.which].mask


def _limits(clock: Clock | None) -> dict[str, Any]:
    """Of one search."""
    return {} if clock is None else {"timeout": clock.left(), "concurrent": clock.concurrent}


def _quick(spec: PatternSpec) -> int:
    """Up to how many characters a search needs no timeout."""
    if spec.vetted:
        return _QUICK
    ways, nested = most_ways(spec.pattern)
    if ways > _FEW_WAYS or (nested and "(?<" in spec.pattern):  # a lookbehind can search all of the context
        return 0
    return _QUICK_REPEATS if nested else _QUICK


def _folding(patterns: Sequence[Pattern], specs: Sequence[PatternSpec]) -> Folding:
    """Marks of markdown that a pattern names are no marks to it."""
    sources = [spec.pattern for spec in specs]
    named: set[str] = set()
    for source, pattern in zip(sources, patterns, strict=True):
        for token in tokens(source, bool(pattern.exact.flags & regex.VERBOSE)):
            if token != "*" and not token.startswith("[^"):
                named.update(token)
    return Folding(sources, markdown=MARKDOWN - named)


def _compile(source: str, flags: int) -> regex.Pattern[str]:
    try:
        return regex.compile(source, flags)
    except regex.error as error:
        raise ConfigurationError(f"pattern {source!r} is no regular expression: {error}") from error


def _unflagged(source: str) -> str:
    """Without leading inline flags: they are given to every form as flags, since a form may nest the pattern."""
    leading = regex.match(r"(?:\(\?[aiLmsuxfw]+\))+", source)
    return source if leading is None else source[leading.end() :]


def _reach(source: str, pattern: str, wary: bool, bound: int) -> tuple[int, bool]:
    """How far a match that starts at a position may look, and whether nothing makes it look any further."""
    known = widths(source, 0)
    if known is None or known[1] > _WIDEST:
        return max(bound, 2 * known[0] if known else 0), False
    ahead = any(mark in pattern for mark in LOOKAHEADS)
    return known[1] + (bound if ahead else 2 if wary else 0), not ahead


def _joined(patterns: Sequence[Pattern]) -> regex.Pattern[str] | None:
    """All as one alternation, for the one search that most deltas need; ``None`` where they cannot be joined."""
    shared = {pattern.flags & ~_SCOPED for pattern in patterns}
    groups: dict[str, list[str]] = {}
    for pattern in patterns:
        source = f"(?{_letters(pattern.flags)}:{_unflagged(pattern.open_source)})"
        groups.setdefault(pattern.starts, []).append(source)
    alternatives = [
        f"(?=[{starts}])(?|{'|'.join(group)})" if starts else "|".join(group) for starts, group in groups.items()
    ]
    try:
        return regex.compile(f"(?|{'|'.join(alternatives)})", shared.pop()) if len(shared) == 1 else None
    except regex.error:
        return None


_SCOPED = regex.IGNORECASE | regex.MULTILINE | regex.DOTALL


def _letters(flags: int) -> str:
    chosen = zip("ims", (regex.IGNORECASE, regex.MULTILINE, regex.DOTALL), strict=True)
    return "".join(letter for letter, flag in chosen if flags & flag)
