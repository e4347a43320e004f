"""Config files: which are read, how several become one, and which file a key came from.

Merging is NeMo Guardrails': lists of models, instructions and prompts are joined; of any other key the last file wins,
whole. A key that stands twice in one file is an error.
"""

from __future__ import annotations

import fnmatch
import logging
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from railstream.errors import ConfigurationError

log = logging.getLogger(__name__)

JOINED: Final = ("models", "instructions", "prompts")
SUFFIXES: Final = (".yml", ".yaml")
NO_COLANG: Final = (
    "Colang is not run here; write the rail as a Python function decorated @action in `actions.py` beside the config "
    "and put its name under `rails.input.flows` or `rails.output.flows`"
)
NO_KNOWLEDGE_BASE: Final = "there is no knowledge base; give what was retrieved in the request's messages"


@dataclass(slots=True)
class Sources:
    """A config as written, and where each part of it was written."""

    content: dict[str, Any] = field(default_factory=dict)
    origins: dict[tuple[str | int, ...], tuple[str, int | None]] = field(default_factory=dict)
    """Of a top-level key, or an item of a joined list: the file, and the item's index in it."""

    def add(self, name: str, content: Any) -> None:
        """Lay one file's content over what is there."""
        if content is None:
            return
        if not isinstance(content, Mapping):
            raise ConfigurationError(f"{name}: must be a mapping of keys, not {type(content).__name__}")
        for key, value in content.items():
            if key in JOINED and isinstance(value, list):
                self._join(name, key, value)
                continue
            if (key,) in self.origins and self.content[key] != value:
                log.warning("%s: %r replaces the one of %s, whole", name, key, self.origins[(key,)][0])
            self.content[key] = value
            self.origins[(key,)] = (name, None)

    def _join(self, name: str, key: str, items: list[Any]) -> None:
        before = self.content.get(key) or []
        self.content[key] = [*before, *items]
        self.origins.setdefault((key,), (name, None))
        for index in range(len(items)):
            self.origins[(key, len(before) + index)] = (name, index)

    def place(self, location: Sequence[str | int]) -> str:
        """``config.yml: rails.output.streaming.chunk_size``."""
        path = list(location)
        name, index = self.origins.get(tuple(path[:2])) or self.origins.get(tuple(path[:1])) or ("config", None)
        if index is not None:
            path[1] = index
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        return f"{name}: {dotted}" if dotted else name


def read_path(path: Path) -> Sources:
    """A config file, or every YAML file of a config directory, in the order of their paths."""
    sources = Sources()
    if path.is_file() and path.suffix in SUFFIXES:
        sources.add(str(path), parse(path.read_text("utf-8"), str(path)))
        return sources
    if not path.is_dir():
        raise ConfigurationError(f"{str(path)!r} is neither a config directory nor a .yml or .yaml file")
    for file in _files(path):
        if file.suffix == ".co":
            raise ConfigurationError(f"{file}: {NO_COLANG}")
        if file.suffix == ".md" and file.relative_to(path).parts[0] == "kb":
            raise ConfigurationError(f"{file}: {NO_KNOWLEDGE_BASE}")
        if file.suffix in SUFFIXES:
            sources.add(str(file), parse(file.read_text("utf-8"), str(file)))
    return sources


def parse(text: str, name: str) -> Any:
    """YAML as plain data; ``ConfigurationError`` with the line when it is not YAML."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        raise ConfigurationError(f"{name}: {where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{name}: {error}") from error


def _files(directory: Path) -> Iterator[Path]:
    """Files to read, links followed once. Hidden ones are not the config: Kubernetes keeps `..data` beside it."""
    ignored = _ignored(directory)
    seen = set()
    for root, folders, names in os.walk(directory, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(names):
            if not name.startswith(".") and not any(fnmatch.fnmatch(name, pattern) for pattern in ignored):
                yield Path(root, name)


def _ignored(directory: Path) -> list[str]:
    """Patterns of the nearest `.railsignore`, upward from the config."""
    for folder in (directory, *directory.resolve().parents):
        file = folder / ".railsignore"
        if file.is_file():
            lines = (line.strip() for line in file.read_text("utf-8").splitlines())
            return [line for line in lines if line and not line.startswith("#")]
    return []


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML in which no key stands twice in one mapping: the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key != "<<" and key in seen:
                problem = f"the key {key!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)
