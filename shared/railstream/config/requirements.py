"""What a config's flows need: their stage, prompts, models and patterns, and a streaming mode that suits them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from railstream.config.base import Location, nearest
from railstream.config.flows import BuiltIn, Flow, Stage

if TYPE_CHECKING:
    from railstream.config.rails_config import RailsConfig

Problem = tuple[Location, str]


def problems(config: RailsConfig) -> Iterator[Problem]:
    """Everything that keeps the config from being served, with its place."""
    yield from _of_models(config)
    rails = config.rails
    stages: tuple[tuple[str, Stage, Sequence[Flow]], ...] = (
        ("input", "input", rails.input.flows),
        ("output", "output", rails.output.flows),
        ("tool_input", "input", rails.tool_input.flows),
        ("tool_output", "output", rails.tool_output.flows),
    )
    for section, stage, flows in stages:
        for index, flow in enumerate(flows):
            for message in _of_flow(config, flow, stage, section):
                yield ("rails", section, "flows", index), message
    yield from _of_streaming(config)
    names = {model.model for model in config.models}
    for name in config.railstream.prices:
        if name not in names:
            yield ("railstream", "prices", name), f"{name!r} is no model of this config{nearest(name, names)}"


def _of_models(config: RailsConfig) -> Iterator[Problem]:
    names = {model.model for model in config.models}
    seen = set()
    for index, model in enumerate(config.models):
        if (model.type, model.model) in seen:
            yield ("models", index), f"the model {model.model!r} of type {model.type!r} is named twice"
        seen.add((model.type, model.model))
        for fallback in model.railstream.fallbacks:
            place: Location = ("models", index, "railstream", "fallbacks")
            if fallback == model.model:
                yield place, f"the model {fallback!r} cannot be its own fallback"
            elif fallback not in names:
                yield place, f"{fallback!r} is no model of this config{nearest(fallback, names)}"


def _of_flow(config: RailsConfig, flow: Flow, stage: Stage, section: str) -> Iterator[str]:
    types = {model.type for model in config.models}
    if flow.model and flow.model not in types:
        known = ", ".join(repr(kind) for kind in sorted(types)) or "none"
        yield f"the flow {flow.text!r} asks a model of type {flow.model!r}, which is not under `models`; there: {known}"
    built_in = flow.built_in
    if built_in is None:
        return
    if built_in.kind == "tool" and section != "tool_output":
        yield f"the flow {flow.text!r} is of the tool_output rails, not of the {section} rails"
        return
    if built_in.stage != stage:
        yield f"the flow {flow.text!r} is of the {built_in.stage} rails, not of the {stage} rails"
        return
    yield from _of_built_in(config, flow, built_in, types)


def _of_built_in(config: RailsConfig, flow: Flow, built_in: BuiltIn, types: set[str]) -> Iterator[str]:
    if built_in.model == "$model" and not flow.model:
        yield f"the flow {flow.text!r} must say which model it asks: `{flow.name} $model=<type>`"
        return
    if built_in.model and built_in.model != "$model" and not flow.model and built_in.model not in types:
        yield f"the flow {flow.text!r} needs a model of type {built_in.model!r} under `models`"
    task = flow.prompt_task
    if task and config.prompt_task_of(flow) is None:
        yield f"the flow {flow.text!r} needs a prompt with `task: {task}` under `prompts`"
    if built_in.section:
        missing = getattr(config.rails.config, built_in.section).missing(built_in.stage)
        if missing:
            yield f"the flow {flow.text!r} has nothing to look for: fill rails.config.{built_in.section}.{missing}"


def _of_streaming(config: RailsConfig) -> Iterator[Problem]:
    streaming = config.rails.output.streaming
    if not streaming.enabled or not (streaming.stream_first or streaming.context_size):
        return
    rewriting = [flow.text for flow in config.rails.output.flows if rewrites_windows(config, flow)]
    if rewriting:
        yield (
            ("rails", "output", "streaming"),
            f"{', '.join(map(repr, rewriting))} rewrites the text a window at a time, which cannot be put together "
            f"with stream_first: {streaming.stream_first} and context_size: {streaming.context_size}; set "
            "stream_first: False and context_size: 0, or use an incremental rail that masks with any window "
            "(`mask pii on output`, `mask terms on output`)",
        )


def rewrites_windows(config: RailsConfig, flow: Flow) -> bool:
    """Whether a flow changes the text, and cannot do it as the text grows."""
    built_in = flow.built_in
    if built_in is None or built_in.kind == "incremental":
        return False
    omits = built_in.name == "injection detection" and config.rails.config.injection_detection.action == "omit"
    return built_in.rewrites or omits
