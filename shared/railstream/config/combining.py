"""Combining two configs into one, the second taking precedence in what it sets itself.

As in NeMo Guardrails, lists are joined without repeats and the second's items come first. Unlike there, a default that
nobody wrote never overrides what the first config says, and of keys that decide what rails let pass the stricter value
holds (`railstream.config.strictness`). Two configs with different prompts for one task cannot be combined: nobody can
say which of them is the stricter.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from railstream.config.sources import Sources
from railstream.errors import ConfigurationError


def combine(first: Sources, second: Sources) -> Sources:
    """The content of both. Models of one type must be the same ones."""
    models = _models(first, second)
    content = _join(first.content, second.content)
    prompts = _prompts(first.content.get("prompts") or (), second.content.get("prompts") or ())
    if models:
        content["models"] = models
    if prompts:
        content["prompts"] = prompts
    combined = Sources()
    combined.content = copy.deepcopy(content)
    combined.origins = {(key,): _both(first, second, key) for key in content}
    return combined


def _prompts(first: Iterable[Mapping[str, Any]], second: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    before, after = _by_task(first), _by_task(second)
    for task in before.keys() & after.keys():
        if sorted(map(repr, before[task])) != sorted(map(repr, after[task])):
            raise ConfigurationError(
                f"configs that are combined must agree on the prompts of a task; of {task!r} both have their own"
            )
    return [*second, *(prompt for prompt in first if prompt.get("task") not in after)]


def _by_task(prompts: Iterable[Mapping[str, Any]]) -> dict[Any, list[Mapping[str, Any]]]:
    """A prompt for one model or mode only would be chosen before the other config's: the task alone counts."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for prompt in prompts:
        found.setdefault(prompt.get("task"), []).append(prompt)
    return found


def set_at(content: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Put a value at a path of a config's content."""
    for name in path[:-1]:
        inner = content.get(name)
        content[name] = content = dict(inner) if isinstance(inner, Mapping) else {}
    content[path[-1]] = value


def _models(first: Sources, second: Sources) -> list[Any]:
    before, after = first.content.get("models") or [], second.content.get("models") or []
    for kind in dict.fromkeys(item["type"] for item in before):
        mine, theirs = _names(before, kind), _names(after, kind)
        if theirs and mine != theirs:
            raise ConfigurationError(
                f"configs that are combined must agree on the models of a type; of type {kind!r} one has "
                f"{_written(mine)}, the other {_written(theirs)}"
            )
    kinds = {item["type"] for item in after}
    return [*after, *(item for item in before if item["type"] not in kinds)]


def _names(models: Iterable[Mapping[str, Any]], kind: str) -> set[tuple[str, str]]:
    return {(item["engine"], _name(item)) for item in models if item["type"] == kind}


def _name(model: Mapping[str, Any]) -> str:
    parameters = model.get("parameters") or {}
    return str(model.get("model") or parameters.get("model") or parameters.get("model_name"))


def _written(names: set[tuple[str, str]]) -> str:
    return ", ".join(f"{engine}/{name}" for engine, name in sorted(names))


def _join(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    joined = dict(first)
    for key, value in second.items():
        before = joined.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            joined[key] = _join(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            joined[key] = [*value, *(item for item in before if item not in value)]
        elif value is not None:
            joined[key] = value
    return joined


def _both(first: Sources, second: Sources, key: str) -> tuple[str, None]:
    files = [sources.origins[(key,)][0] for sources in (first, second) if (key,) in sources.origins]
    return " + ".join(dict.fromkeys(files)), None
