"""Lines, files and classes of each package of a checkout; tests and what is not Python are left out."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import NamedTuple


class Size(NamedTuple):
    package: str
    files: int
    lines: int
    classes: int
    functions: int


def packages(root: Path) -> list[Path]:
    """What the wheel holds, as pyproject.toml names it."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return [root / path for path in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]


def measured(root: Path) -> list[Size]:
    sizes = [_size(package) for package in packages(root)]
    return [*sizes, Size("all", *(sum(values) for values in zip(*(size[1:] for size in sizes), strict=True)))]


def _size(package: Path) -> Size:
    texts = [path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py"))]
    nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
    classes = sum(isinstance(node, ast.ClassDef) for node in nodes)
    functions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
    return Size(package.name, len(texts), sum(text.count("\n") for text in texts), classes, functions)
