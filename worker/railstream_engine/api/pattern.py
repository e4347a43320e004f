"""Take a prefix and a suffix off a text that comes in chunks, and cut it at the first stop string.

Held back is only a chunk whose end may still become one of them; what is released adds up to the text without them.
"""

from __future__ import annotations

from collections.abc import Sequence


class Pattern:
    def __init__(self) -> None:
        self.prefix: str | None = None
        self.suffix: str | None = None
        self.stop: list[str] = []
        self._held = ""

    def feed(self, chunk: str) -> tuple[str | None, bool]:
        """The text to release, ``None`` for none, and whether a stop string ended it."""
        if not self.prefix and not self.suffix and not self.stop and not self._held:
            return chunk, False
        self._held += chunk
        if self.prefix:
            if len(self._held) < len(self.prefix) and self.prefix.startswith(self._held):
                return None, False
            self._held = self._held.removeprefix(self.prefix)
            self.prefix = None
        return self._decide()

    def flush(self) -> str:
        """What is left at the end."""
        text, self._held = self._held, ""
        if self.prefix:  # it never came whole, and what came of it may hold a stop string
            text = text.removeprefix(self.prefix)
        stop = self._stop_in(text)
        text = text[:stop].removesuffix(self.suffix or "")
        self.prefix = self.suffix = None
        return text

    def _decide(self) -> tuple[str | None, bool]:
        if self._stop_in(self._held) is not None:
            return self.flush() or None, True
        if self._may_grow():
            return None, False
        text, self._held = self._held, ""
        return text or None, False

    def _stop_in(self, text: str) -> int | None:
        """Where the stop string begins that is complete first, as if the text came character by character."""
        found = [(at + len(stop), at) for stop in self.stop if stop and (at := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _may_grow(self) -> bool:
        """Whether the text ends with the beginning of a stop string, or of the suffix, which may be the whole one."""
        suffix = self.suffix or ""
        return _overlaps(self._held, [stop[:-1] for stop in self.stop]) or _overlaps(self._held, [suffix])


def _overlaps(text: str, words: Sequence[str]) -> bool:
    return any(text.endswith(word[:length]) for word in words for length in range(1, len(word) + 1))
