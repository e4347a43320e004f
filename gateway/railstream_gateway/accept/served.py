"""What serves a request: its configs, combined, and the model."""

from __future__ import annotations

from dataclasses import dataclass

from railstream.config import RailsConfig


@dataclass(frozen=True, slots=True)
class Served:
    config_ids: tuple[str, ...]
    config: RailsConfig
    model: str
