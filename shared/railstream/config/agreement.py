"""What a rail goes by beside its own keys: its prompt, its model, its action, its rules.

Combining two configs may add rails and never change one: where the other config would put something else in the place
of what a rail goes by, the two cannot be combined.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from railstream.config.action_names import actions_in
from railstream.errors import ConfigurationError

if TYPE_CHECKING:
    from railstream.config.flows import Flow
    from railstream.config.models import Model
    from railstream.config.rails_config import RailsConfig

ADDRESSES: Final = ("base_url", "api_base", "endpoint", "azure_endpoint")
"""Parameters of a model that say who answers under its name."""


def check_agreement(part: RailsConfig, combined: RailsConfig) -> None:
    """Raises ``ConfigurationError`` where a rail of ``part`` would go by something else in the combination."""
    for flow in part.flows:
        now = dict(_grounds(combined, flow))
        for what, value in _grounds(part, flow):
            if value != now.get(what):
                raise ConfigurationError(
                    f"the rail {flow.text!r} would go by another {what} than in its own config; configs that are "
                    f"combined must agree on it: give both the same one, or leave it out of the other"
                )


def _grounds(config: RailsConfig, flow: Flow) -> Iterator[tuple[str, Any]]:
    """What a rail goes by, each by its name. What a config leaves to another one is left out."""
    built_in = flow.built_in
    own = _actions(config, flow)
    if own or built_in is not None:
        yield "action", own
    task = config.prompt_task_of(flow) if flow.prompt_task else None
    if task is not None:
        yield from _asked(config, task)
    if built_in is None:
        return
    detection = config.rails.config
    if built_in.section == "injection_detection":
        rules = detection.injection_detection
        for name in rules.injections or rules.yara_rules:
            yield f"YARA rule ({name})", rules.yara_rules.get(name, rules.yara_path)
    if built_in.name == "jailbreak detection heuristics":
        yield "server (rails.config.jailbreak_detection.server_endpoint)", detection.jailbreak_detection.server_endpoint


def _asked(config: RailsConfig, task: str) -> Iterator[tuple[str, Any]]:
    """The question of a rail that asks a model, and who is asked."""
    prompt = config.prompt_of(task)
    yield "prompt", prompt.model_dump(exclude={"task", "models", "mode"})
    written = f"{prompt.content}{prompt.messages}"
    inserted: Mapping[str, Any] = {
        "general_instructions": config.general_instructions,
        "sample_conversation": config.sample_conversation,
        "reasoning_enabled": config.rails.config.content_safety.reasoning.enabled,
    }
    for name, value in inserted.items():
        if name in written:
            yield f"{name} in its prompt", value
    model = config.model_for(task)
    if model is not None:
        yield "model", (model.engine, model.model, _address(model))


def _address(model: Model) -> tuple[Any, ...]:
    return tuple(model.parameters.get(name) for name in ADDRESSES)


def _actions(config: RailsConfig, flow: Flow) -> tuple[str, ...]:
    """The action that runs for the flow, by the bytes of its file; empty where none stands beside the config."""
    names = {flow.name, *flow.action_names}
    found = {
        hashlib.sha256(file.read_bytes()).hexdigest()
        for folder in config.directories
        for name, file in actions_in(folder)
        if name in names
    }
    return tuple(sorted(found))
