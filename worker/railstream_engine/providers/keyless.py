"""A model whose API key is not set: each call of it fails at once, with the variable's name, and nothing is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from urllib.parse import urlsplit

from railstream.config.missing_variables import sentence
from railstream.config.models import Model
from railstream.errors import MissingKeyError

from railstream_engine.providers.port import Call, Part


class KeylessModel:
    def __init__(self, entry: Model) -> None:
        parts = urlsplit(entry.base_url)
        self.name = entry.model
        self.provider = entry.engine
        self.address = parts.hostname or ""
        self.port = parts.port or 443
        self._message = sentence(entry)

    async def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        """Raises ``MissingKeyError``."""
        raise MissingKeyError(self._message)
        yield []  # makes this a generator

    async def aclose(self) -> None:
        return None
