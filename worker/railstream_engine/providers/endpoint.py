"""Where a model is served, how it is spoken to, and how long each step of a call may take. It loads no SDK."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from railstream.config.engines import OTHER, Engine
from railstream.extra_fields import OF_A_CHOICE, OF_THE_ANSWER


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each step of a call may take, in seconds, and how often it is begun anew."""

    connect: float = 5
    first_token: float = 60
    """From the call to the first content, all retries and pauses included."""
    chunk: float = 60
    total: float = 600
    max_retries: int = 2

    @property
    def silence(self) -> float:
        """What the socket may be silent for, whatever it waits for."""
        return max(self.first_token, self.chunk)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``params`` are defaults below each call's own."""

    model: str
    base_url: str
    api_key: str = field(repr=False)
    provider: str = "openai"
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, object] = field(default_factory=dict)
    patience: Patience = Patience()
    continuous_usage: bool = False
    engine: Engine = OTHER
    refuses: frozenset[str] = frozenset()
    drops: frozenset[str] = frozenset()
    keeps: frozenset[str] = frozenset((*OF_THE_ANSWER, *OF_A_CHOICE))
    """Fields beside the delta that are read of its answers."""

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.base_url)
        return parts.port or (443 if parts.scheme == "https" else 80)
