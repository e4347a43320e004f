"""The names of the actions that stand beside a config, read from the source of `actions.py` without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from railstream.config.base import nearest
from railstream.config.flows import BUILT_IN, Flow
from railstream.errors import ConfigurationError

if TYPE_CHECKING:
    from railstream.config.rails_config import RailsConfig


def action_names(config: RailsConfig) -> frozenset[str]:
    """Actions of `actions.py`, or of the files in `actions/`, of the config's directories."""
    return frozenset(name for folder in config.directories for file in _files(folder) for name in _names(file))


def actions_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """The actions of one directory, each with its file."""
    for file in _files(folder):
        for name in _names(file):
            yield name, file


def missing_actions(config: RailsConfig) -> list[tuple[Flow, str]]:
    """Flows that are neither built in nor an action beside the config, each with a hint at what was meant."""
    names = action_names(config)
    known = {*BUILT_IN, *(name.replace("_", " ") for name in names)}
    missing = [flow for flow in config.flows if flow.built_in is None and not {flow.action, flow.name} & names]
    return [(flow, _hint(flow, known)) for flow in missing]


def _hint(flow: Flow, known: set[str]) -> str:
    hint = nearest(flow.name, known)
    return hint if hint.endswith("?") else ""


def _files(folder: Path) -> Iterator[Path]:
    for file in (folder / "actions.py", *sorted((folder / "actions").rglob("*.py"))):
        if file.is_file():
            yield file


def _names(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_text("utf-8"), str(file))
    except SyntaxError as error:
        raise ConfigurationError(f"{file}: line {error.lineno}: {error.msg}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                yield from _named_by(decorator, node.name)


def _named_by(decorator: ast.expr, function: str) -> Iterator[str]:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    word = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    if word != "action":
        return
    for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
            yield keyword.value.value
            return
    yield function
