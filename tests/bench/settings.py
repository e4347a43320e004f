"""How much is measured: the full load of the budget, or as little as shows that a case works."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bench.results import Findings
from bench.systems import Upstream


@dataclass(frozen=True, slots=True)
class Settings:
    """``smoke`` shrinks every load to a second or so: its figures mean nothing."""

    streams: int = 100
    words: int = 100
    long_words: int = 500
    rate: float = 25
    gateways: int = 1
    workers: int = 1
    config: str = "regex"
    repeat: int = 1
    smoke: bool = False

    def scaled(self, full: int, smoke: int) -> int:
        return smoke if self.smoke else full


@dataclass(slots=True)
class Bench:
    """What a case is given. ``directory`` takes configs, logs and Redis data; each system gets its own below it."""

    settings: Settings
    upstream: Upstream
    directory: Path
    findings: Findings
    systems: int = 0

    def room(self) -> Path:
        """A directory for one more system."""
        self.systems += 1
        return self.directory / f"system-{self.systems}"


Case = Callable[[Bench], Awaitable[None]]
