"""Incremental rails: in process, on every delta, holding back only what could still become part of a match.

The rails of a config are stages in the order of its flows: each sees what the one before lets through. What leaves,
and which flow stops the text, depends on the whole text alone, never on how it was cut into deltas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from railstream_worker.rails.first_characters import any_of
from railstream_worker.rails.matching import UNDECIDED, Matcher
from railstream_worker.rails.pieces import Ledger, Piece

_TRIM = 128  # characters that are settled before their buffer is cut, or before the stages are shown them


@dataclass(frozen=True, slots=True)
class IncrementalRail:
    """One flow of this kind: it masks what its matcher finds, or stops the text in front of it."""

    flow: str
    matcher: Matcher
    masks: bool


class Chain:
    """The incremental rails of one text."""

    def __init__(self, rails: Sequence[IncrementalRail]) -> None:
        self._stages = tuple(_Stage(rail) for rail in rails)
        self.flows = tuple(rail.flow for rail in rails)
        self.rewrites = any(rail.masks for rail in rails)
        self._first = any_of(tuple(rail.matcher.first for rail in rails))
        self._holds = False
        self._unshown = ""
        """What passed without a search: the stages need it as context for the next one."""
        self.blocked_by: str | None = None
        self.running = ""
        """The flow at work, for the message when it fails."""

    def prime(self, text: str) -> None:
        """What was released before: context for what follows."""
        for stage in self._stages:
            stage.prime(text)

    def push(self, text: str, final: bool = False) -> Sequence[Piece]:
        """What may leave now. The last call is ``final``, or one after which ``blocked_by`` is set."""
        if self.rewrites:
            return self._push_pieces([Piece(text, len(text), True)] if text else [], final)
        passed = self.pass_text(text, final)
        return (Piece(passed, len(passed), True),) if passed else ()

    def pass_text(self, text: str, final: bool) -> str:
        """As `push`, where no rail rewrites: what may leave is the text's own."""
        self._show()
        for stage in self._stages:
            self.running = stage.rail.flow
            text = stage.pass_text(text, final)
            if stage.blocked:
                self.blocked_by = stage.rail.flow
                final = True  # for the stages behind, the text ends here
            elif not text and not final:
                break
        self._holds = any(stage.holds for stage in self._stages)
        return text

    def passes(self, text: str) -> bool:
        """Take a delta that may leave as it is, at once. False when it may not, or when text is held: `push` it."""
        if self._holds:
            return False
        if self._first is not None and self._first.isdisjoint(text):
            self._unshown += text
            if len(self._unshown) > _TRIM:
                self._show()
            return True
        self._show()
        for stage in self._stages:
            self.running = stage.rail.flow
            if not stage.clears(text):
                return False
        for stage in self._stages:
            stage.pass_by(text)
        return True

    def _show(self) -> None:
        if self._unshown:
            for stage in self._stages:
                stage.pass_by(self._unshown)
            self._unshown = ""

    def _push_pieces(self, pieces: list[Piece], final: bool) -> list[Piece]:
        self._show()
        for stage in self._stages:
            self.running = stage.rail.flow
            pieces = stage.pass_pieces(pieces, final)
            if stage.blocked:
                self.blocked_by = stage.rail.flow
                final = True
        self._holds = any(stage.holds for stage in self._stages)
        return pieces


class _Stage:
    """One rail's view of the text: left context, then what is not settled yet."""

    __slots__ = ("_find", "_ledger", "_start", "_text", "_trim", "blocked", "rail")

    def __init__(self, rail: IncrementalRail) -> None:
        self.rail = rail
        self.blocked = False
        self._find = rail.matcher.find
        self._trim = rail.matcher.context + _TRIM
        self._text = ""
        self._start = 0
        self._ledger = Ledger()

    def prime(self, text: str) -> None:
        # One more than the context: a text that does not start here must not look as if it did.
        self._text = text[-self.rail.matcher.context - 1 :]
        self._start = len(self._text)

    @property
    def holds(self) -> bool:
        return self._start < len(self._text)

    def clears(self, more: str) -> bool:
        """Whether nothing would be held back or stopped with this, where nothing is now."""
        text = self._text + more
        found = self._find(text, self._start, False)
        return found.start == len(text) and found.end == UNDECIDED

    def pass_by(self, more: str) -> None:
        """Text that leaves as it is, where nothing is held: context for what follows."""
        self._text += more
        self._start = len(self._text)
        if self._start > self._trim:
            self._cut_context()

    def pass_text(self, more: str, final: bool) -> str:
        text = self._text = self._text + more
        start = self._start
        found = self._find(text, start, final)
        self._start = found.start
        if found.end != UNDECIDED:
            self.blocked = True
        elif found.start > self._trim:
            self._cut_context()
        return text[start : found.start]

    def pass_pieces(self, pieces: list[Piece], final: bool) -> list[Piece]:
        self._ledger.add(pieces)
        self._text += "".join(piece.text for piece in pieces)
        passed: list[Piece] = []
        while True:
            found = self._find(self._text, self._start, final)
            passed += self._ledger.take(found.start - self._start)
            self._start = found.start
            if found.end == UNDECIDED:
                break
            if not self.rail.masks:
                self.blocked = True
                break
            masked = self._ledger.take(found.end - found.start)
            replacement = self.rail.matcher.replacement(found, self._text[found.start : found.end])
            passed.append(Piece(replacement, sum(piece.source for piece in masked), False))
            self._start = found.end
        if self._start > self._trim:
            self._cut_context()
        return passed

    def _cut_context(self) -> None:
        kept = self._start - self.rail.matcher.context - 1
        self._text = self._text[kept:]
        self._start -= kept


def guard_whole(rails: Sequence[IncrementalRail], text: str) -> tuple[str, str | None]:
    """What is released of a complete text, and the flow that stops it, by plain search: the tests' oracle."""
    blocked_by = None
    for rail in rails:
        released, stopped = _whole(rail, text)
        text = released
        blocked_by = rail.flow if stopped else blocked_by
    return text, blocked_by


def _whole(rail: IncrementalRail, text: str) -> tuple[str, bool]:
    released, start = "", 0
    while True:
        match = rail.matcher.find_whole(text, start)
        if match is None:
            return released + text[start:], False
        released += text[start : match.start]
        if not rail.masks:
            return released, True
        released += rail.matcher.replacement(match, text[match.start : match.end])
        start = match.end
