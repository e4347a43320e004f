"""Put the pieces that incremental rails let through back into the deltas that the model sent.

Windows count the model's deltas. One is complete when all its characters are settled, whatever they became.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class SettledDelta:
    """What a delta became: its text, and the releases that let it out."""

    text: str = ""
    releases: list[tuple[int, str | None]] = field(default_factory=list)


class Reassembly:
    def __init__(self) -> None:
        self._sent: deque[str] = deque()
        self._used = 0
        self._current = SettledDelta()

    def sent(self, text: str) -> None:
        """A delta on its way through the incremental rails."""
        self._sent.append(text)

    def settle(self, consumed: int, text: str | None) -> Iterator[SettledDelta]:
        """As `Release`. The deltas that it completes; one that was rewritten away as part of another is none."""
        left = consumed
        while left:
            head = self._sent[0]
            taken = min(left, len(head) - self._used)
            left -= taken
            if text is None:
                self._current.text += head[self._used : self._used + taken]
                self._current.releases.append((taken, None))
            elif not left:  # what replaces several deltas counts as the last of them
                self._current.text += text
                self._current.releases.append((consumed, text))
            self._used += taken
            if self._used == len(head):
                self._sent.popleft()
                self._used = 0
                if self._current.releases:
                    yield self._current
                    self._current = SettledDelta()
