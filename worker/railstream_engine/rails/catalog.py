"""The rails that a config's flows stand for, each made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from railstream.config import Flow, RailsConfig
from railstream.config.rails import Channel

from railstream_engine.rails.judges.action_judge import ActionJudge
from railstream_engine.rails.judges.actions import action_of, find_actions, own_action
from railstream_engine.rails.judges.jailbreak import JailbreakJudge
from railstream_engine.rails.judges.judge_group import Judge
from railstream_engine.rails.judges.llm_judges import JUDGES
from railstream_engine.rails.judges.local_judges import IncrementalJudge, InjectionJudge, PresidioJudge
from railstream_engine.rails.judges.replaced_judge import ReplacedJudge
from railstream_engine.rails.judges.verdict import Stage
from railstream_engine.rails.matching.entities import entity_patterns
from railstream_engine.rails.matching.incremental import IncrementalRail
from railstream_engine.rails.matching.match import Matcher
from railstream_engine.rails.matching.patterns import PatternSet, PatternSpec
from railstream_engine.rails.matching.terms import TermSet
from railstream_engine.rails.tools.tool_checks import ToolCheck, tool_check

Keep = Callable[[str], bool]
"""Whether a flow is to run."""


@dataclass(frozen=True, slots=True)
class OutputRails:
    """The output rails by kind, each in the order of the flows."""

    incremental: Sequence[IncrementalRail]
    window: Sequence[Judge]
    whole: Sequence[Judge]
    tool: Sequence[ToolCheck] = ()

    def __bool__(self) -> bool:
        return bool(self.incremental or self.window or self.whole or self.tool)

    def __add__(self, other: OutputRails) -> OutputRails:
        return OutputRails(
            [*self.incremental, *other.incremental],
            [*self.window, *other.window],
            [*self.whole, *other.whole],
            [*self.tool, *other.tool],
        )

    def reading(self, channel: Channel, channels_of: Callable[[Flow], Sequence[Channel]]) -> OutputRails:
        """Those that read a channel: every local rail, and the judging ones that the config lets read it."""

        def reads(judge: Judge) -> bool:
            return not isinstance(judge.flow, Flow) or channel in channels_of(judge.flow)

        return OutputRails(self.incremental, list(filter(reads, self.window)), list(filter(reads, self.whole)))

    def local(self) -> OutputRails:
        """The incremental rails alone."""
        return OutputRails(self.incremental, (), ())

    def only(self, keep: Keep) -> OutputRails:
        return OutputRails(
            [rail for rail in self.incremental if keep(rail.flow)],
            [judge for judge in self.window if keep(judge.flow)],
            [judge for judge in self.whole if keep(judge.flow)],
            [check for check in self.tool if keep(check.flow)],
        )


class Catalog:
    """Makes rails of flows. Raises ``ConfigurationError`` for one that cannot be made."""

    def __init__(self, config: RailsConfig, actions: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self._config = config
        self._actions = {**find_actions(config), **(actions or {})}

    def input_rails(self) -> list[Judge]:
        return [self._judge(flow, "input") for flow in self._config.rails.input.flows]

    def tool_input_rails(self) -> list[Judge]:
        return [self._judge(flow, "input") for flow in self._config.rails.tool_input.flows]

    def output_rails(self) -> OutputRails:
        return self._of(self._config.rails.output.flows)

    def tool_output_rails(self) -> OutputRails:
        return self._of(self._config.rails.tool_output.flows)

    def _of(self, flows: Sequence[Flow]) -> OutputRails:
        return OutputRails(
            [incremental_rail(self._config, flow, "output") for flow in flows if self._kind(flow) == "incremental"],
            [self._judge(flow, "output") for flow in flows if self._kind(flow) == "window"],
            [self._judge(flow, "output") for flow in flows if self._kind(flow) == "whole"],
            [tool_check(self._config, flow) for flow in flows if self._kind(flow) == "tool"],
        )

    def _judge(self, flow: Flow, stage: Stage) -> Judge:
        built_in = flow.built_in
        if built_in is None:
            return ActionJudge(self._config, flow, stage, action_of(self._actions, flow))
        own = own_action(self._actions, flow)
        if own is not None:
            return ReplacedJudge(self._config, flow, stage, own)
        if built_in.kind == "incremental":
            return IncrementalJudge(incremental_rail(self._config, flow, stage))
        if built_in.extra == "presidio":
            return PresidioJudge(self._config, flow, stage)
        if built_in.extra == "yara":
            return InjectionJudge(self._config, flow, stage)
        if built_in.name == "jailbreak detection heuristics":
            return JailbreakJudge(self._config, flow, stage)
        return JUDGES[built_in.name](self._config, flow, stage)

    def _kind(self, flow: Flow) -> str:
        """A custom action judges windows, also in the place of a built-in rail that decides as the text comes."""
        if flow.built_in is None:
            return "window"
        kind = flow.built_in.kind
        return "window" if kind == "incremental" and own_action(self._actions, flow) is not None else kind


def incremental_rail(config: RailsConfig, flow: Flow, stage: Stage) -> IncrementalRail:
    """The rail of a built-in flow of the kind ``incremental``."""
    built_in = flow.built_in
    assert built_in is not None
    return IncrementalRail(flow, _matcher(config, built_in.section or "", stage, built_in.rewrites), built_in.rewrites)


def _matcher(config: RailsConfig, section: str, stage: Stage, masks: bool) -> Matcher:
    detection = config.rails.config
    if section == "regex_detection":
        regexes = getattr(detection.regex_detection, stage)
        specs = [PatternSpec(pattern, ignore_case=regexes.case_insensitive) for pattern in regexes.patterns]
        return PatternSet(specs, extent_matters=masks, fold=regexes.fold)
    if section == "terms":
        terms = getattr(detection.terms, stage)
        return TermSet(
            terms.terms,
            ignore_case=terms.case_insensitive,
            whole_words=terms.whole_words,
            mask=terms.mask_token,
            extent_matters=masks,
            fold=terms.fold,
        )
    options = getattr(getattr(detection, section), stage)
    return PatternSet(entity_patterns(options.entities, options.mask_token), extent_matters=masks, fold=options.fold)
