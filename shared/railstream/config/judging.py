"""What decides the verdicts of a config's judging rails: combining it with another config may not change that.

Nobody can say which of two prompts, judge models or actions is the stricter, so a combination that would give a rail
another one than it has alone is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from railstream.config.action_names import action_names
from railstream.config.flows import Flow
from railstream.errors import ConfigurationError

if TYPE_CHECKING:
    from railstream.config.rails_config import RailsConfig


def check(before: RailsConfig, combined: RailsConfig) -> None:
    """Raises ``ConfigurationError`` where a rail of ``before`` would be judged by something else in the combination."""
    for flow in dict.fromkeys(before.flows):
        now = dict(_grounds(combined, flow))
        for what, value in _grounds(before, flow):
            if now.get(what) != value:
                raise ConfigurationError(
                    f"the flow {flow.text!r} of the config {before.id or 'without an id'!r} would have another {what} "
                    f"when combined with {_others(before, combined)}; write the same {what} into both"
                )


def _grounds(config: RailsConfig, flow: Flow) -> Iterator[tuple[str, Any]]:
    own = sorted({flow.name, *flow.action_names} & action_names(config))
    yield "action", own
    if own or flow.built_in is None:
        for name, value in config.custom_data.items():
            yield f"custom_data.{name}", value
    task = config.prompt_task_of(flow) if flow.prompt_task is not None else None
    if task is None or own:
        return
    prompt, model = config.prompt_of(task), config.model_for(task)
    yield "prompt", (task, prompt.model_dump())
    yield "judge model", None if model is None else (model.type, model.engine, model.model)
    yield "parameters of its judge model", None if model is None else model.parameters
    yield "lowest_temperature", config.lowest_temperature
    for name, value in _variables(config).items():
        if name in repr(prompt.model_dump()):
            yield name, value


def _variables(config: RailsConfig) -> dict[str, Any]:
    """What a prompt is filled in with beside the texts in question and the request's context."""
    return {
        "general_instructions": config.general_instructions,
        "sample_conversation": config.sample_conversation,
        "reasoning_enabled": config.rails.config.content_safety.reasoning.enabled,
    }


def _others(before: RailsConfig, combined: RailsConfig) -> str:
    ids = [id for id in combined.id.split(",") if id and id not in before.id.split(",")]
    return ", ".join(map(repr, ids)) or "the other config"
