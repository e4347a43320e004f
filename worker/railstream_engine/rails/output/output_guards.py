"""The output rails of one generation: guards of its channels, and rulings on its tool calls and short values.

Local rails (patterns, terms, detectors, masks) read everything. Judging rails read the channels that the config names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from railstream.config.rails import Channel

from railstream_engine.rails.catalog import OutputRails
from railstream_engine.rails.judges.judge_group import cause_of
from railstream_engine.rails.matching.incremental import Chain
from railstream_engine.rails.port import Block, OutputGuard, Release, ToolCall, Turn, Violation
from railstream_engine.rails.tools.tool_texts import Blocked, read_arguments, readable

if TYPE_CHECKING:
    from railstream_engine.rails.engine import RailsEngine

SHOWN = 200
"""Characters before an alternative token that local rails read with it."""


class OutputGuards:
    """See `railstream_engine.rails.port.Guards`."""

    def __init__(
        self,
        engine: RailsEngine,
        turn: Turn,
        block: Block,
        rails: OutputRails,
        of_calls: OutputRails,
        *,
        streaming: bool,
    ) -> None:
        """``of_calls``: rails that read tool calls alone, beside those that read all of the output."""
        self._engine = engine
        self._turn = turn
        self._block = block
        self._rails = rails
        self._of_calls = rails.reading("tools", engine.config.rails.output.channels_of) + of_calls
        self._streaming = streaming
        self._output = engine.config.rails.output
        self._activated: list[dict[str, Any]] = []
        """Entries for the log of rails, of the text that was read last."""
        self.guarded = bool(rails or of_calls)
        self.passes_unread = self._output.unread_channels == "pass" or not rails

    def channel(self, name: Channel, release: Release) -> OutputGuard | None:
        rails = self._rails.reading(name, self._output.channels_of)
        return self._engine.guard_of(rails, self._turn, release, self._block, streaming=self._streaming)

    async def rule_call(self, call: ToolCall) -> ToolCall | None:
        """Local rails read each text of the call; judging ones read ``name(arguments)`` in one text."""
        rails = self._of_calls
        for check in rails.tool:
            if (failed := await check.problem(call)) is not None:
                self._block(self._engine.panel_of(()).tool_violation(check.flow, failed))
                return None
        try:
            if not call.declared:
                await self._read_name(call.name)
            arguments = await read_arguments(call.arguments, self._read)
        except Blocked:
            return None
        finally:
            self._turn.activated.extend(self._activated)
        text = f"{call.name}({readable(arguments)})"
        for judges in (rails.window, rails.whole):
            ruling = await self._engine.panel_of(judges).rule(text, self._turn)
            if ruling.violation is not None:
                self._block(ruling.violation)
                return None
            if ruling.text != text:
                self._block(self._engine.panel_of(judges).failure(judges[-1].flow, "it rewrote a tool call"))
                return None
        return replace(call, arguments=arguments)

    async def _read_name(self, name: str) -> None:
        """A name cannot be masked in part: one that a rail would rewrite is blocked."""
        if name and await self._read(name) != name:
            self._block(self._engine.panel_of(()).violation(self._of_calls.incremental[0].flow))
            raise Blocked

    async def _read(self, text: str) -> str | None:
        if not self._of_calls.incremental:
            return text
        turn = self._silent
        checked, violation = await self._engine.check_output(turn, text, self._of_calls.local())
        self._activated = turn.activated
        if violation is not None:
            self._block(violation)
            return None
        return checked

    async def lets_pass(self, text: str) -> bool:
        if not self._of_calls.incremental:
            return False
        checked, violation = await self._engine.check_output(self._silent, text, self._of_calls.local())
        return violation is None and checked == text

    def alternatives(self, before: str, texts: Sequence[str]) -> list[bool]:
        judged = self._rails.reading("content", self._output.channels_of)
        if self._output.alternatives == "drop" or judged.window or judged.whole:
            return [False] * len(texts)
        return [self._may_stand(before[-SHOWN:] + text) for text in texts]

    def _may_stand(self, text: str) -> bool:
        chain = Chain(self._rails.incremental)
        try:
            passed = "".join(piece.text for piece in chain.push(text, final=True))
        except Exception as error:  # a search that ran out of time: what cannot be searched stays
            cause_of(error, chain.running)
            return False
        return chain.blocked_by is None and passed == text

    def close(self) -> None:
        self._block = _ignore

    @property
    def _silent(self) -> Turn:
        """The turn with a log of its own: of all the texts of a call, the last one read stands in the log of rails."""
        return replace(self._turn, activated=[])


def _ignore(_: Violation) -> None:
    """Stands in the place of a generation that is over."""
