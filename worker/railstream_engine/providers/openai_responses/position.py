"""How far a run has been read, over all the connections that read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from railstream.errors import CallError


@dataclass(slots=True)
class Position:
    """``on_begun`` is called once, with the run's id, as soon as the provider has named it."""

    id: str = ""
    on_begun: Callable[[str], None] | None = None
    last: int = -1
    """Sequence number of the last event that was read."""
    numbered: bool = True
    """Whether every event so far had a number: without one nobody knows where to go on."""
    skipped: bool = False
    """Whether a sequence number was left out: the provider may have lost an event."""
    read_at: float = 0.0
    """When the answer last gained something, in monotonic seconds; 0 before that."""
    connections: int = 0
    ended: bool = False
    """The run's last event was read: it has no cancel to wait for."""
    failed: bool = False
    """The provider reported a failure, or sent what has no meaning: reading on would not help."""
    lengths: dict[tuple[str, int, int], int] = field(default_factory=dict)
    """Characters of each text so far, by its kind, item and part."""
    tools: dict[int, int] = field(default_factory=dict)
    """Number of the tool call of an item."""

    @property
    def resumable(self) -> bool:
        """Whether another connection can go on where this one broke off."""
        return bool(self.id) and self.numbered and not self.ended and not self.failed

    @property
    def goes_on(self) -> bool:
        """Whether the present connection was asked for what follows the last event."""
        return self.connections > 1 and self.last >= 0

    @property
    def may_lack(self) -> bool:
        """Whether events may be missing between those that were read."""
        return self.connections > 1 or self.skipped

    def named(self, id: str) -> None:
        """The provider named the run."""
        if self.id and id != self.id:
            raise CallError(f"the provider sent the run {id!r} where {self.id!r} was asked for", code="provider")
        if not self.id:
            self.id = id
            if self.on_begun is not None:
                self.on_begun(id)

    def passes(self, number: int | None) -> bool:
        """Whether an event is new, by its number."""
        if number is None:
            self.numbered = False
            return True
        if number <= self.last:
            return False
        self.skipped = self.skipped or (self.last >= 0 and number > self.last + 1)
        self.last = number
        return True

    def gained(self, kind: str, item: int, part: int, text: str) -> None:
        key = (kind, item, part)
        self.lengths[key] = self.lengths.get(key, 0) + len(text)
