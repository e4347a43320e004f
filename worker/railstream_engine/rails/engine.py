"""The rails of one config, compiled once and shared by all its generations."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from railstream.config import Flow, RailsConfig
from railstream.config.rails import Channel

from railstream_engine.rails.catalog import Catalog, OutputRails
from railstream_engine.rails.input.input_rails import check_messages
from railstream_engine.rails.input.passed import Passed
from railstream_engine.rails.judges.judge_group import Judge, Panel
from railstream_engine.rails.matching.incremental import Chain, IncrementalRail, guard_whole
from railstream_engine.rails.output.deltas import SettledDelta
from railstream_engine.rails.output.guard import IncrementalGuard
from railstream_engine.rails.output.output_guards import OutputGuards
from railstream_engine.rails.output.window_guard import Pace, WindowGuard
from railstream_engine.rails.output.windows import DocumentedWindows, RollingWindows, Windows
from railstream_engine.rails.port import Block, OutputGuard, Release, Turn, Violation
from railstream_engine.rails.selection import selection

TOOL_ROLES = ("tool", "function")
FIRST_CHUNK = 8  # deltas of the first window when the config does not say: about one line


class RailsEngine:
    """Raises ``ConfigurationError`` when a rail cannot be made: an extra, an action or a model is missing.

    ``actions``: custom actions by name, before those beside the config. ``in_process``: whoever asks is the operator,
    and may switch rails off unless the config says that nobody may.
    """

    def __init__(
        self, config: RailsConfig, actions: Mapping[str, Callable[..., Any]] | None = None, *, in_process: bool = False
    ) -> None:
        self.config = config
        allowed = config.railstream.allow_request_rails
        self._may_switch_off = in_process if allowed is None else allowed
        rails = config.rails
        timeout = rails.output.streaming.check_timeout
        catalog = Catalog(config, actions)
        self._input = Panel(catalog.input_rails(), "input", rails.input.parallel, timeout, self._refusal)
        self._passed = Passed()
        self._output = catalog.output_rails()
        self._tool_output = catalog.tool_output_rails()
        self._tool_input = Panel(catalog.tool_input_rails(), "input", rails.tool_input.parallel, timeout, self._refusal)
        self._panel = Panel((), "output", rails.output.parallel, timeout, self._refusal)

    async def check_input(self, turn: Turn) -> tuple[Sequence[Mapping[str, Any]], Violation | None]:
        """The messages to generate from (perhaps masked), and what stopped one. May be cancelled at any time."""
        messages: Sequence[Mapping[str, Any]] = turn.messages
        trusted = self.config.rails.input.trusted_roles
        panels: tuple[tuple[Panel, str, Sequence[str]], ...] = (
            (self._tool_input, "tool_input", TOOL_ROLES),
            (self._input, "input", ()),
        )
        for panel, stage, roles in panels:
            keep = self._wanted(turn, stage)
            judges = [judge for judge in panel.judges if keep is None or keep(judge.flow)]
            if judges:
                rails = replace(panel, judges=judges)
                now = replace(turn, messages=messages)
                messages, violation = await check_messages(rails, now, self._passed, trusted, only=roles)
                turn.params = now.params
                if violation is not None:
                    return turn.messages, violation
        return messages, None

    def guards(self, turn: Turn, block: Block, *, streaming: bool = True) -> OutputGuards:
        """The output rails of one generation. ``block`` gets the first violation."""
        keep = self._wanted(turn, "tool_output")
        of_calls = self._tool_output if keep is None else self._tool_output.only(keep)
        return OutputGuards(self, turn, block, self._output_rails(turn), of_calls, streaming=streaming)

    def guard(
        self, turn: Turn, release: Release, block: Block, *, channel: Channel = "content", streaming: bool = True
    ) -> OutputGuard | None:
        """A guard for one channel of one choice, or ``None`` when no rail reads it."""
        rails = self._output_rails(turn).reading(channel, self.config.rails.output.channels_of)
        return self.guard_of(rails, turn, release, block, streaming=streaming)

    def guard_of(
        self, rails: OutputRails, turn: Turn, release: Release, block: Block, *, streaming: bool
    ) -> OutputGuard | None:
        """A guard of these rails; ``None`` when there are none."""
        if not (rails.window or rails.whole):
            return self._incremental_guard(rails.incremental, turn, release, block)
        settings = self.config.rails.output.streaming
        return WindowGuard(
            turn,
            release,
            block,
            windows=self._windows() if rails.window else None,
            panel=self.panel_of(rails.window),
            whole=self.panel_of(rails.whole),
            pace=Pace(
                settings.stream_first and streaming,
                settings.max_concurrent_checks,
                ahead=settings.chunk_size,
                by_window=settings.strategy == "rolling",
            ),
            inner=lambda passed, stop: self._incremental_guard(rails.incremental, turn, passed, stop),
        )

    def panel_of(self, judges: Sequence[Judge]) -> Panel:
        """These judging rails, as the config runs output rails."""
        return replace(self._panel, judges=judges)

    def _output_rails(self, turn: Turn) -> OutputRails:
        keep = self._wanted(turn, "output")
        return self._output if keep is None else self._output.only(keep)

    async def check_output(
        self, turn: Turn, text: str, rails: OutputRails | None = None
    ) -> tuple[str, Violation | None]:
        """A complete text as the output rails leave it, and what stopped it. ``rails``: only these."""
        released: list[str] = []
        stopped: list[Violation] = []
        at = 0

        def release(consumed: int, replaced: str | None) -> None:
            nonlocal at
            released.append(text[at : at + consumed] if replaced is None else replaced)
            at += consumed

        guard = self.guard_of(rails or self._output_rails(turn), turn, release, stopped.append, streaming=False)
        if guard is None:
            return text, None
        try:
            guard.push(text)
            await guard.finish()
        finally:
            await guard.aclose()
        return "".join(released), stopped[0] if stopped else None

    def guard_text(self, text: str) -> tuple[str, str | None]:
        """What the incremental rails let out of a complete text, and the flow that stops it: the tests' oracle."""
        return guard_whole(self._output.incremental, text)

    async def aclose(self) -> None:
        """Nothing stays open between texts: each guard closes what it started."""

    def _incremental_guard(
        self, rails: Sequence[IncrementalRail], turn: Turn, release: Release, block: Block
    ) -> OutputGuard | None:
        if not rails:
            return None
        return IncrementalGuard(Chain(rails), turn, release, block, self._panel)

    def _windows(self) -> Windows[SettledDelta]:
        settings = self.config.rails.output.streaming
        if not settings.enabled:  # such a config never streams: judged once, as a whole, like NeMo does
            return DocumentedWindows(sys.maxsize, 0)
        if settings.strategy == "rolling":
            return RollingWindows(settings.chunk_size, settings.context_size)
        first = settings.first_chunk_size or FIRST_CHUNK
        return DocumentedWindows(settings.chunk_size, settings.context_size, first=first, growth=settings.chunk_growth)

    def _wanted(self, turn: Turn, stage: str) -> Any:
        """Which flows the request wants, if it may say."""
        turn.may_switch_off = self._may_switch_off
        if not turn.options or not self._may_switch_off:
            return None
        return selection(turn.options, stage)

    def _refusal(self, flow: str) -> str:
        return self.config.refusal(flow if isinstance(flow, Flow) else None)
