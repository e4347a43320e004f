"""Incremental rails: in process, on every delta, holding back only what could still become part of a match.

The rails of a config are stages in the order of its flows: each sees what the one before lets through. What leaves,
and which flow stops the text, depends on the whole text alone, never on how it was cut into deltas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from railstream_engine.rails.matching.first_characters import any_of
from railstream_engine.rails.matching.folding import Folded
from railstream_engine.rails.matching.match import Match, Matcher, find_before_break
from railstream_engine.rails.matching.pieces import Piece
from railstream_engine.rails.matching.search_time import ON_LOOP, Allowance, OffLoop
from railstream_engine.rails.matching.stages import TRIM, stage_of

SLICE = 1024
"""Characters that are searched at once: a few milliseconds at most, for rails that mask too."""


@dataclass(frozen=True, slots=True)
class IncrementalRail:
    """One flow of this kind: it masks what its matcher finds, or stops the text in front of it."""

    flow: str
    matcher: Matcher
    masks: bool


class Chain:
    """The incremental rails of one text.

    Raises `OffLoop` where a search needs more time than the event loop has: `resume` in a thread, before anything else.
    """

    def __init__(self, rails: Sequence[IncrementalRail]) -> None:
        self._stages = tuple(stage_of(rail.flow, rail.matcher, rail.masks) for rail in rails)
        self.flows = tuple(rail.flow for rail in rails)
        self.rewrites = any(rail.masks for rail in rails)
        self._first = any_of(tuple(rail.matcher.first for rail in rails))
        self._holds = False
        self._unshown = ""
        """What passed without a search: the stages need it as context for the next one."""
        self._rest = (0, False)
        """The stage that ran out of time, and whether its text ends there."""
        self.blocked_by: str | None = None
        self.running = ""
        """The flow at work, for the message when it fails."""

    def prime(self, text: str) -> None:
        """What was released before: context for what follows."""
        for stage in self._stages:
            stage.prime(text)

    def push(self, text: str, final: bool = False) -> Sequence[Piece]:
        """What may leave now. The last call is ``final``, or one after which ``blocked_by`` is set."""
        self._show()
        return self._pass(0, text, final, ON_LOOP)

    def resume(self, within: Allowance) -> Sequence[Piece]:
        """Go on where `OffLoop` was raised."""
        stage, final = self._rest
        return self._pass(stage, "", final, within)

    def _pass(self, first: int, text: str, final: bool, within: Allowance) -> Sequence[Piece]:
        if self.rewrites:
            return self._pass_pieces(first, [Piece(text, len(text), True)] if text else [], final, within)
        passed = self._pass_text(first, text, final, within)
        return (Piece(passed, len(passed), True),) if passed else ()

    def pass_text(self, text: str, final: bool) -> str:
        """As `push`, where no rail rewrites: what may leave is the text's own."""
        self._show()
        return self._pass_text(0, text, final, ON_LOOP)

    def _pass_text(self, first: int, text: str, final: bool, within: Allowance) -> str:
        for index in range(first, len(self._stages)):
            stage = self._stages[index]
            self.running = stage.flow
            try:
                text = stage.pass_text(text, final, within)
            except OffLoop:
                self._rest = (index, final)
                raise
            if stage.blocked:
                self.blocked_by = stage.flow
                final = True  # for the stages behind, the text ends here
            elif not text and not final:
                break
        self._holds = any(stage.holds for stage in self._stages)
        return text

    def _pass_pieces(self, first: int, pieces: list[Piece], final: bool, within: Allowance) -> list[Piece]:
        for index in range(first, len(self._stages)):
            stage = self._stages[index]
            self.running = stage.flow
            try:
                pieces = stage.pass_pieces(pieces, final, within)
            except OffLoop:
                self._rest = (index, final)
                raise
            if stage.blocked:
                self.blocked_by = stage.flow
                final = True
        self._holds = any(stage.holds for stage in self._stages)
        return pieces

    def passes(self, text: str) -> bool:
        """Take a delta that may leave as it is, at once. False when it may not, or when text is held: `push` it."""
        if self._holds:
            return False
        if self._first is not None and self._first.isdisjoint(text):
            unshown = self._unshown + text
            if len(unshown) > TRIM:
                if len(text) > SLICE:
                    return False
                self._unshown = unshown
                self._show()
            else:
                self._unshown = unshown
            return True
        if len(text) > SLICE:
            return False
        self._show()
        for stage in self._stages:
            self.running = stage.flow
            if not stage.clears(text):
                return False
        for stage in self._stages:
            stage.pass_cleared()
        return True

    def _show(self) -> None:
        if self._unshown:
            for stage in self._stages:
                stage.pass_by(self._unshown)
            self._unshown = ""


def guard_whole(rails: Sequence[IncrementalRail], text: str) -> tuple[str, str | None]:
    """What is released of a complete text, and the flow that stops it, by plain search: the tests' oracle."""
    blocked_by = None
    for rail in rails:
        released, stopped = _whole(rail, text)
        text = released
        blocked_by = rail.flow if stopped else blocked_by
    return text, blocked_by


def _whole(rail: IncrementalRail, text: str) -> tuple[str, bool]:
    folding = rail.matcher.folding
    folded = Folded(text, range(len(text)), (), 0) if folding is None else folding.read(text, "", 0)
    released, settled, start = "", 0, 0
    while (match := _first_match(rail.matcher, folded, start)) is not None:
        at = folded.starts[match.start]
        released += text[settled:at]
        if not rail.masks:
            return released, True
        released += rail.matcher.replacement(match)
        settled = folded.starts[match.end - 1] + 1
        start = match.end
        while start < len(folded.text) and folded.starts[start] < settled:
            start += 1
    return released + text[settled:], False


def _first_match(matcher: Matcher, folded: Folded, start: int) -> Match | None:
    for end in folded.breaks:
        if end > start:
            if (found := find_before_break(matcher, folded.text, start, end)) is not None:
                return found
            start = end
    return matcher.find_whole(folded.text, start)
