"""One incremental rail's view of a text: left context, then what is not settled yet.

A stage of a rail that folds keeps the folded text, and for each of its characters where in the text it comes from.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from railstream_engine.rails.matching.folding import Folding
from railstream_engine.rails.matching.match import UNDECIDED, Match, Matcher, find_before_break
from railstream_engine.rails.matching.pieces import Ledger, Piece
from railstream_engine.rails.matching.search_time import ON_LOOP, Allowance

TRIM = 128  # characters that are settled before their buffer is cut


class Stage(Protocol):
    """The text of `pass_text` and `pass_pieces` is taken even when they raise `OffLoop`: call them again without."""

    flow: str
    blocked: bool

    @property
    def holds(self) -> bool: ...

    def prime(self, text: str) -> None:
        """What was released before."""

    def clears(self, more: str) -> bool:
        """Whether nothing would be held back or stopped with this, where nothing is now."""

    def pass_cleared(self) -> None:
        """What was cleared last leaves, and is context for what follows."""

    def pass_by(self, more: str) -> None:
        """Text leaves that nobody has cleared, where nothing is held."""

    def pass_text(self, more: str, final: bool, within: Allowance) -> str:
        """What may leave, of a rail that does not mask."""

    def pass_pieces(self, pieces: list[Piece], final: bool, within: Allowance) -> list[Piece]:
        """What may leave, and what stands in place of what is masked."""


def stage_of(flow: str, matcher: Matcher, masks: bool) -> Stage:
    if matcher.folding is None:
        return _PlainStage(flow, matcher, masks)
    return _FoldedStage(flow, matcher, masks, matcher.folding)


class _PlainStage:
    __slots__ = (
        *("_cleared", "_find", "_ledger", "_masks", "_matcher", "_passed", "_start", "_text", "_trim"),
        *("blocked", "flow"),
    )

    def __init__(self, flow: str, matcher: Matcher, masks: bool) -> None:
        self.flow = flow
        self.blocked = False
        self._masks = masks
        self._matcher = matcher
        self._find = matcher.find
        self._trim = matcher.context + TRIM
        self._text = self._cleared = ""
        self._start = 0
        self._ledger = Ledger()
        self._passed: list[Piece] = []

    def prime(self, text: str) -> None:
        # One more than the context: a text that does not start here must not look as if it did.
        self._text = text[-self._matcher.context - 1 :]
        self._start = len(self._text)

    @property
    def holds(self) -> bool:
        return self._start < len(self._text)

    def clears(self, more: str) -> bool:
        text = self._cleared = self._text + more
        found = self._find(text, self._start, False, ON_LOOP)
        return found.start == len(text) and found.end == UNDECIDED

    def pass_cleared(self) -> None:
        self._text = self._cleared
        self._start = len(self._text)
        if self._start > self._trim:
            self._cut_context()

    def pass_by(self, more: str) -> None:
        self._cleared = self._text + more
        self.pass_cleared()

    def pass_text(self, more: str, final: bool, within: Allowance) -> str:
        text = self._text = self._text + more
        start = self._start
        found = self._find(text, start, final, within)
        self._start = found.start
        if found.end != UNDECIDED:
            self.blocked = True
        elif found.start > self._trim:
            self._cut_context()
        return text[start : found.start]

    def pass_pieces(self, pieces: list[Piece], final: bool, within: Allowance) -> list[Piece]:
        self._ledger.add(pieces)
        self._text += "".join(piece.text for piece in pieces)
        while True:
            found = self._find(self._text, self._start, final, within)
            self._passed += self._ledger.take(found.start - self._start)
            self._start = found.start
            if found.end == UNDECIDED:
                break
            if not self._masks:
                self.blocked = True
                break
            masked = self._ledger.take(found.end - found.start)
            self._passed.append(_masked(masked, self._matcher.replacement(found)))
            self._start = found.end
        if self._start > self._trim:
            self._cut_context()
        passed, self._passed = self._passed, []
        return passed

    def _cut_context(self) -> None:
        kept = self._start - self._matcher.context - 1
        self._text = self._text[kept:]
        self._start -= kept


class _FoldedStage:
    __slots__ = (
        *("_breaks", "_cleared", "_cleared_skipped", "_find", "_folding", "_ledger", "_masks", "_matcher", "_origin"),
        *("_passed", "_plain", "_raw", "_seen", "_settled", "_skipped", "_start", "_starts", "_text", "_trim"),
        *("blocked", "flow"),
    )

    def __init__(self, flow: str, matcher: Matcher, masks: bool, folding: Folding) -> None:
        self.flow = flow
        self.blocked = False
        self._masks = masks
        self._matcher = matcher
        self._find = matcher.find
        self._folding = folding
        self._plain = folding.plain
        self._trim = matcher.context + TRIM
        self._text = self._cleared = ""
        """Folded; so are the positions in it."""
        self._start = 0
        self._skipped = self._cleared_skipped = 0
        self._breaks: deque[int] = deque()
        self._raw = ""
        """The text as it came, of what is not settled; only where there is no ledger."""
        self._seen = self._settled = 0
        """Positions in the text as it came, as are those in ``_starts``."""
        self._origin = 0
        """The position that the first of ``_starts`` is of."""
        self._starts: list[int] = []
        self._ledger = Ledger()
        self._passed: list[Piece] = []

    def prime(self, text: str) -> None:
        folded = self._folding.read(text, "", 0)
        self._text = folded.text[-self._matcher.context - 1 :]
        self._skipped = folded.skipped
        self._start = len(self._text)

    @property
    def holds(self) -> bool:
        return self._start < len(self._text)

    def clears(self, more: str) -> bool:
        before = self._text
        if self._plain.issuperset(more) and not self._skipped and "  " not in more:
            if more[0] == " " and before[-1:] == " ":
                return False  # rare enough to be left to `pass_text`
            text = self._cleared = before + more
            self._cleared_skipped = 0
        else:
            folded = self._folding.read(more, before[-1:], self._skipped)
            if folded.breaks:
                return False
            text = self._cleared = before + folded.text
            self._cleared_skipped = folded.skipped
        found = self._find(text, self._start, False, ON_LOOP)
        return found.start == len(text) and found.end == UNDECIDED

    def pass_cleared(self) -> None:
        self._text = self._cleared
        self._start = len(self._text)
        self._skipped, self._cleared_skipped = self._cleared_skipped, 0
        if self._start > self._trim:
            self._cut_context()

    def pass_by(self, more: str) -> None:
        folded = self._folding.read(more, self._text[-1:], self._skipped)
        self._cleared = self._text + folded.text
        self._cleared_skipped = folded.skipped
        self.pass_cleared()

    def pass_text(self, more: str, final: bool, within: Allowance) -> str:
        if more:
            self._take(more)
            self._raw += more
        found = self._next(final, within) if self._breaks else self._find(self._text, self._start, final, within)
        self.blocked = found.end != UNDECIDED
        settled = self._settle(found.start)
        raw = self._raw
        self._raw = raw[settled:]
        if self._start > self._trim:
            self._cut_context()
        return raw[:settled]

    def pass_pieces(self, pieces: list[Piece], final: bool, within: Allowance) -> list[Piece]:
        self._ledger.add(pieces)
        if more := "".join(piece.text for piece in pieces):
            self._take(more)
        while True:
            found = self._next(final, within)
            self._passed += self._ledger.take(self._settle(found.start))
            if found.end == UNDECIDED:
                break
            if not self._masks:
                self.blocked = True
                break
            masked = self._ledger.take(self._settle_match(found.end))
            self._passed.append(_masked(masked, self._matcher.replacement(found)))
        if self._start > self._trim:
            self._cut_context()
        passed, self._passed = self._passed, []
        return passed

    def _take(self, more: str) -> None:
        text, seen = self._text, self._seen
        if self._start == len(text):
            self._origin, self._starts, self._settled = self._start, [], seen
        self._seen = seen + len(more)
        if self._plain.issuperset(more) and "  " not in more and not (more[0] == " " and text[-1:] == " "):
            self._text = text + more
            self._starts.extend(range(seen, self._seen))
            self._skipped = max(0, self._skipped - len(more)) if self._skipped else 0
            return
        folded = self._folding.read(more, text[-1:], self._skipped)
        self._text = text + folded.text
        self._starts += [seen + start for start in folded.starts]
        self._breaks.extend(len(text) + one for one in folded.breaks)
        self._skipped = folded.skipped

    def _next(self, final: bool, within: Allowance) -> Match:
        """The next match, or from where on it is undecided."""
        while self._breaks:
            end = self._breaks[0]
            if self._start < end:
                found = find_before_break(self._matcher, self._text, self._start, end, within)
                if found is not None:
                    return found
                self._start = end
            self._breaks.popleft()
        return self._find(self._text, self._start, final, within)

    def _settle(self, to: int) -> int:
        """How much of the text as it came stands before this position."""
        self._start = to
        position = self._seen if to == len(self._text) else self._starts[to - self._origin]
        settled, self._settled = position - self._settled, position
        return settled

    def _settle_match(self, end: int) -> int:
        """How much of it a match stands for; the next one does not begin inside of its last character."""
        last = self._starts[end - 1 - self._origin]
        while end < len(self._text) and self._starts[end - self._origin] == last:
            end += 1
        self._start = end
        settled, self._settled = last + 1 - self._settled, last + 1
        return settled

    def _cut_context(self) -> None:
        kept = self._start - self._matcher.context - 1
        self._text = self._text[kept:]
        self._start -= kept
        self._breaks = deque(one - kept for one in self._breaks)
        del self._starts[: max(0, kept - self._origin)]
        self._origin = max(0, self._origin - kept)


def _masked(masked: list[Piece], replacement: str) -> Piece:
    return Piece(replacement, sum(piece.source for piece in masked), False)
