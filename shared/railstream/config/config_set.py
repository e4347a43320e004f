"""The configs that a process serves, by id: loaded once at start, never from the file system for a request."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Final

from railstream.config.rails_config import RailsConfig
from railstream.errors import ConfigurationError, InvalidRequestError, UnknownConfigError

BUILT_IN: Final = Path(__file__).parent.parent / "defaults"
FILES: Final = ("config.yml", "config.yaml")
COMBINATIONS: Final = 256
"""Combined configs that are kept: requests choose the combination, so it must be bounded."""

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class ConfigSet:
    """Configs by id. The built-in ones are `scripted`, and `openai` where ``OPENAI_API_KEY`` is set."""

    def __init__(self, configs: Mapping[str, RailsConfig], default_id: str) -> None:
        self._configs = dict(configs)
        self._combined: dict[tuple[str, ...], RailsConfig] = {}
        self._default_id = default_id

    @classmethod
    def load(cls, root: Path | None, *, default: str = "") -> ConfigSet:
        """The configs of a root: a directory with a `config.yml` is one config, else each folder in it that has one.

        Args:
            root: ``None`` for the built-in configs.
            default: Id of the config of requests that name none. Not given: the only or first one.

        A model whose API key is not set stops nobody: its own calls fail, and `railstream.config.missing_variables`
        names the variable.

        Raises:
            ConfigurationError: one of them is wrong, or there is none.
        """
        directories = _built_in() if root is None else dict(_found(Path(root)))
        configs = {id: RailsConfig.from_path(path, require_keys=False) for id, path in directories.items()}
        if default and default not in configs:
            raise ConfigurationError(f"the default config {default!r} is none of {', '.join(configs)}")
        return cls(configs, default or next(iter(configs)))

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._configs)

    @property
    def default_id(self) -> str:
        """Id of the config of requests that name none."""
        return self._default_id

    def get(self, ids: Sequence[str] = ()) -> RailsConfig:
        """The config of these ids, combined in their order; of none: the default one.

        Raises:
            UnknownConfigError: there is no config of such an id.
            InvalidRequestError: they cannot be combined.
        """
        wanted = tuple(dict.fromkeys(ids)) or (self._default_id,)
        for id in wanted:
            if id not in self._configs:
                raise UnknownConfigError(
                    f"there is no rails config {id!r} here; known are {', '.join(self._configs)}",
                    param="guardrails.config_id",
                )
        return self._configs[wanted[0]] if len(wanted) == 1 else self._combination(wanted)

    def _combination(self, ids: tuple[str, ...]) -> RailsConfig:
        combined = self._combined.get(ids)
        if combined is None:
            combined = self._combine(ids)
            while len(self._combined) >= COMBINATIONS:
                self._combined.pop(next(iter(self._combined)))
            self._combined[ids] = combined
        return combined

    def _combine(self, ids: tuple[str, ...]) -> RailsConfig:
        first, *others = (self._configs[id] for id in ids)
        try:
            return reduce(RailsConfig.combined_with, others, first)
        except ConfigurationError as error:
            raise InvalidRequestError(
                f"the configs {', '.join(ids)} cannot be combined: {error}", param="guardrails.config_ids"
            ) from error

    def models(self) -> tuple[str, ...]:
        """Names of the models that are served, those of the default config first."""
        return tuple(dict.fromkeys(model.model for config in self._ordered() for model in config.main_models))

    def serving(self, model: str) -> str | None:
        """Id of the config that serves a model; the default one, where several do."""
        found = (config for config in self._ordered() if any(main.model == model for main in config.main_models))
        return next((config.id for config in found), None)

    def __iter__(self) -> Iterator[RailsConfig]:
        return iter(self._configs.values())

    def _ordered(self) -> list[RailsConfig]:
        return sorted(self._configs.values(), key=lambda config: config.id != self._default_id)


def _built_in() -> dict[str, Path]:
    names = ["openai", "scripted"] if os.environ.get("OPENAI_API_KEY") else ["scripted"]
    return {name: BUILT_IN / name for name in names}


def _found(root: Path) -> Iterator[tuple[str, Path]]:
    if not root.exists():
        raise ConfigurationError(f"there is no config directory {str(root)!r}")
    if root.is_file():
        yield _safe(root.stem, root), root
        return
    if _has_config(root):
        yield _safe(root.resolve().name, root), root
        return
    folders = [folder for folder in sorted(root.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    found = [folder for folder in folders if _has_config(folder)]
    if not found:
        raise ConfigurationError(f"{str(root)!r} holds no config: neither a config.yml nor a folder with one")
    for folder in found:
        yield _safe(folder.name, folder), folder


def _has_config(folder: Path) -> bool:
    return any((folder / name).is_file() for name in FILES)


def _safe(id: str, path: Path) -> str:
    if not _SAFE_ID.fullmatch(id):
        raise ConfigurationError(f"{path}: its name is the config's id; {id!r} holds more than letters, digits, . _ -")
    return id
