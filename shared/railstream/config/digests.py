"""The digest of a config: whether two processes that name the same config mean the same rails."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from railstream.errors import ConfigurationError

SECRETS: Final = frozenset({"api_key"})
"""Keys whose values may differ between processes that mean the same."""
READ_ELSEWHERE: Final = (".yml", ".yaml")
"""Files whose content stands in the config itself."""
NO_CODE: Final = ("__pycache__",)


def digest_of(content: Mapping[str, Any], directories: Sequence[Path]) -> str:
    """``content``: the whole config, its defaults included. Files count by their bytes, not by where they lie."""
    files = sorted({hashlib.sha256(file.read_bytes()).hexdigest() for folder in directories for file in _files(folder)})
    written = json.dumps([_without_secrets(content), files], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(written.encode("utf-8", "surrogatepass")).hexdigest()


def check_actions(directories: Sequence[Path]) -> None:
    """Raises ``ConfigurationError`` where two of the directories define an action of the same name differently."""
    from railstream.config.action_names import actions_in

    defined: dict[str, tuple[Path, bytes]] = {}
    for folder in directories:
        for name, file in actions_in(folder):
            before = defined.setdefault(name, (file, file.read_bytes()))
            if before[0] != file and before[1] != file.read_bytes():
                raise ConfigurationError(
                    f"configs that are combined must agree on the actions of a name; {name!r} is in both "
                    f"{before[0]} and {file}"
                )


def _files(folder: Path) -> Iterator[Path]:
    """What may change what the rails do: actions, their modules, rules, prompts."""
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        hidden = any(part.startswith(".") or part in NO_CODE for part in parts)
        if not hidden and file.is_file() and file.suffix not in READ_ELSEWHERE:
            yield file


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_secrets(item) for name, item in value.items() if name not in SECRETS}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value
