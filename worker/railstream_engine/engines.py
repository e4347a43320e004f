"""The rails engines of the loaded configs: one per config, built on first use and kept."""

from __future__ import annotations

from railstream.config import RailsConfig

from railstream_engine.rails.engine import RailsEngine

MOST = 300
"""Engines kept: requests choose how configs are combined, so their number must be bounded."""


class Engines:
    def __init__(self) -> None:
        self._built: dict[int, tuple[RailsConfig, RailsEngine]] = {}

    def of(self, config: RailsConfig) -> RailsEngine:
        """The engine of ``config``. Raises ``ConfigurationError`` when a rail cannot be made."""
        built = self._built.get(id(config))
        if built is None:
            while len(self._built) >= MOST:
                self._built.pop(next(iter(self._built)))
            # The config is kept beside its engine, so that its id stays its own.
            built = self._built[id(config)] = (config, RailsEngine(config))
        return built[1]

    async def aclose(self) -> None:
        for _, engine in self._built.values():
            await engine.aclose()
