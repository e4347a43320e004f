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

INDIFFERENT: Final[Any] = {
    "type": True,
    "cache": True,
    "api_key_env_var": True,
    "railstream": {
        "connect_timeout", "first_token_timeout", "chunk_timeout", "total_timeout", "max_retries", "concurrency",
        "requests_per_minute", "tokens_per_minute", "queue_timeout", "on_worker_loss", "continuous_usage",
    },
}  # fmt: skip
"""What of a model decides neither who answers nor what: a rail that gets no answer blocks."""


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
    if own or built_in is None:
        yield from _given_to_actions(config, flow)
    task = config.prompt_task_of(flow) if flow.prompt_task else None
    if task is not None:
        yield from _question(config, task)
    if built_in is None:
        return
    if built_in.name == "self check hallucination":
        yield from _models(config, "main")
    detection = config.rails.config
    if built_in.section == "injection_detection":
        rules = detection.injection_detection
        for name in rules.injections or rules.yara_rules:
            yield f"YARA rule ({name})", rules.yara_rules.get(name, rules.yara_path)
    if built_in.name == "jailbreak detection heuristics":
        yield "server (rails.config.jailbreak_detection.server_endpoint)", detection.jailbreak_detection.server_endpoint


def _given_to_actions(config: RailsConfig, flow: Flow) -> Iterator[tuple[str, Any]]:
    """What an action of one's own reads of the config, and the models that it may ask."""
    for name, value in config.custom_data.items():
        yield f"custom_data.{name}", value
    yield from _models(config, *dict.fromkeys(model.type for model in config.models))
    preferred = config.model_of(flow.action)
    if config.models:
        yield "model of its own", preferred and _answering(config, preferred)


def _question(config: RailsConfig, task: str) -> Iterator[tuple[str, Any]]:
    """The question of a rail that asks a model, and who answers it."""
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
    yield "lowest_temperature", config.lowest_temperature
    model = config.model_for(task)
    if model is not None:
        yield "model", _answering(config, model)


def _models(config: RailsConfig, *kinds: str) -> Iterator[tuple[str, Any]]:
    """The models of these types, as far as the config has them: others may be added."""
    for kind in kinds:
        model = config.model_of(kind)
        if model is not None:
            yield f"model of type {kind!r}", _answering(config, model)


def _answering(config: RailsConfig, model: Model) -> list[dict[str, Any]]:
    """All of a model, and of those that answer in its place, that decides what they answer."""
    fallbacks = (config.model_named(name) for name in model.railstream.fallbacks)
    return [one.model_dump(exclude=INDIFFERENT) for one in (model, *fallbacks) if one is not None]


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
