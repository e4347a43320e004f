"""Custom rails: Python functions decorated ``@action``, in `actions.py` or `actions/` beside a config.

A flow is served by the action of its name: `check prices` by ``check_prices``. Its parameters are filled in by name.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from railstream.config import Flow, RailsConfig
from railstream.errors import ConfigurationError

Function = TypeVar("Function", bound=Callable[..., Any])
_MARK = "__railstream_action__"


@dataclass(frozen=True, slots=True)
class ActionMark:
    """What ``@action`` says of a function."""

    name: str
    is_system_action: bool = False
    execute_async: bool = False


def action(
    name: str | None = None, is_system_action: bool = False, execute_async: bool = False
) -> Callable[[Function], Function]:
    """Mark a function, or a class with ``run``, as an action. It returns a bool (``True``: allowed) or a `Verdict`.

    Args:
        name: What flows call it by; the function's own name if not given.
        is_system_action: Accepted as in NeMo Guardrails; every action runs in the worker.
        execute_async: Accepted as in NeMo Guardrails; windows are judged beside the generation anyway.
    """

    def mark(function: Function) -> Function:
        setattr(function, _MARK, ActionMark(name or function.__name__, is_system_action, execute_async))
        return function

    if callable(name):  # written without parentheses
        function, name = name, None
        return mark(function)
    return mark


def find_actions(config: RailsConfig) -> dict[str, Callable[..., Any]]:
    """The actions beside a config, by name. A later directory of combined configs wins.

    Raises:
        ConfigurationError: a file cannot be imported.
    """
    return {
        name: found
        for directory in config.directories
        for file in _files(directory)
        for found in _functions(_module(file))
        if (name := _name(found))
    }


def action_of(actions: dict[str, Callable[..., Any]], flow: Flow) -> Callable[..., Any]:
    """The action that a flow names. Raises ``ConfigurationError`` when there is none."""
    found = actions.get(flow.action) or actions.get(flow.name)
    if found is None:
        known = ", ".join(sorted(actions)) or "none"
        raise ConfigurationError(
            f"the flow {flow.text!r} is not built in, and there is no action {flow.action!r} in actions.py "
            f"beside the config; there: {known}"
        )
    return found


def own_action(actions: Mapping[str, Callable[..., Any]], flow: Flow) -> Callable[..., Any] | None:
    """The operator's own action in the place of a built-in rail, as in NeMo Guardrails, where the names decide."""
    return next((actions[name] for name in flow.action_names if name in actions), None)


def _files(directory: Path) -> Sequence[Path]:
    found = [directory / "actions.py", *sorted((directory / "actions").rglob("*.py"))]
    return [file for file in found if file.is_file()]


def _module(file: Path) -> Any:
    """The file as a module of its own: two configs may both have an `actions.py`."""
    name = f"railstream_actions_{abs(hash(file.resolve())):x}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look a function's module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's module raises
        del sys.modules[name]
        raise ConfigurationError(f"{file}: {type(error).__name__}: {error}") from error
    return module


def _name(found: Callable[..., Any]) -> str:
    """What an action is called; empty for what is none. Also knows the mark of NeMo Guardrails' own decorator."""
    mark = getattr(found, _MARK, None)
    if isinstance(mark, ActionMark):
        return mark.name
    theirs = getattr(found, "action_meta", None)
    return str(theirs.get("name", "")) if isinstance(theirs, dict) else ""


def _functions(module: Any) -> Iterator[Callable[..., Any]]:
    yield from (found for found in vars(module).values() if callable(found))
