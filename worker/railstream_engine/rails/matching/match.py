"""The port of a matcher: where in a text does the next match start, and how much is still undecided.

A matcher is stateless: it looks at a piece of text, some of it left context, and at whether more is to come. What it
says of a position depends only on the text from there to its ``reach``, so it says the same however the text arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from railstream_engine.rails.matching.folding import Folding
from railstream_engine.rails.matching.search_time import UNLIMITED, Allowance


class Match(NamedTuple):
    start: int
    end: int
    """Exclusive; `UNDECIDED` when everything before ``start`` is clear and what follows may become a match."""
    which: int = 0
    """Which of the matcher's patterns it was."""


UNDECIDED = -1


class Matcher(Protocol):
    reach: int
    """The most characters that can be held back: a match is looked for in so many characters from where it starts."""
    context: int
    """How many characters before a position it may look at."""
    first: frozenset[str] | None
    """The characters of the text that a match can begin with; ``None``: any."""
    begins: frozenset[str] | None
    """The same of the folded text."""
    folding: Folding | None
    """How the text is folded before the matcher sees it; ``None``: it sees the text itself."""

    def find(self, text: str, start: int, final: bool, within: Allowance = UNLIMITED) -> Match:
        """The first match at or after ``start``, or from where on the text is undecided (its length: nothing is).

        Raises `OffLoop` where that takes longer than the event loop has time, if it is ``within`` the loop's time.
        """

    def find_whole(self, text: str, start: int) -> Match | None:
        """The same for a complete text, by plain search from each position: the oracle of the tests."""

    def find_across(self, texts: Sequence[str]) -> Sequence[Match] | None:
        """The matches in the joined texts, as if nothing stood before or behind any stretch of them.

        In positions of the texts as they came. ``None``: it cannot tell, each stretch must be read by itself.
        """

    def replacement(self, match: Match) -> str:
        """What a masking rail writes in its place."""


def find_before_break(matcher: Matcher, text: str, start: int, end: int, within: Allowance = UNLIMITED) -> Match | None:
    """A match in front of a `BREAK`, where what only may become one counts: no more characters are held than that."""
    before = text[:end]
    while start < end:
        found = matcher.find(before, start, False, within)
        if found.end != UNDECIDED:
            return found
        start = found.start
        if start < end and (matcher.begins is None or before[start] in matcher.begins):
            return Match(start, end)
        start += 1
    return None
