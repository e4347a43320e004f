"""In which pieces `railstream chat` shows an answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from railstream.display import by_sentence, by_size, by_time
from railstream.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Pace:
    """As it comes, unless exactly one of these is given: characters, seconds, or whole sentences."""

    size: int = 0
    seconds: float = 0
    sentences: bool = False

    def __post_init__(self) -> None:
        if bool(self.size) + bool(self.seconds) + self.sentences > 1:
            raise ConfigurationError("--buffer-size, --buffer-time and --sentences: give one of them")

    def of(self, texts: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        if self.sentences:
            return by_sentence(texts)
        if self.seconds:
            return by_time(texts, self.seconds)
        return by_size(texts, self.size or 1)
