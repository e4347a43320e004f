"""A fixed offered load, and what its client saw: the vocabulary that the bench and its client process share.

Times are monotonic nanoseconds of this machine, the clock of the upstream's stamps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from railstream.testing import directive, text

MODEL = "testing"
SEEDS = 199
"""Different answers, so that a stream that gets another one's words is noticed."""


class Load(msgspec.Struct, frozen=True):
    """``streams`` answers of ``words`` words, each at ``rate`` words per second."""

    streams: int
    words: int
    rate: float = 25
    ramp: float = 0
    """Seconds over which the streams start; 0: all at once."""
    stamp: bool = True
    delay_first: float = 0
    """Seconds that the upstream thinks before its first word."""
    timeout: float = 120

    @property
    def seconds(self) -> float:
        """How long one answer takes at least."""
        return self.delay_first + (self.words / self.rate if self.rate else 0)

    def seed(self, stream: int) -> int:
        return stream % SEEDS

    def expected(self, stream: int) -> str:
        """What a client must have read, without the stamps."""
        return text.text(self.seed(stream), self.words)

    def body(self, stream: int, extra: dict[str, Any]) -> bytes:
        """The request: the script travels in the message, through any gateway."""
        script: dict[str, Any] = {"words": self.words, "rate": self.rate, "stamp": self.stamp}
        script |= {"seed": self.seed(stream), "delay_first": self.delay_first}
        message = {"role": "user", "content": f"Say something. {directive(**script)}"}
        return msgspec.json.encode({"model": MODEL, "messages": [message], "stream": True} | extra)


class Target(msgspec.Struct, frozen=True):
    """Where a load goes: ports of this machine, in turn, and what each request has besides."""

    ports: tuple[int, ...]
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = {}
    extra: dict[str, Any] = {}


class Order(msgspec.Struct, frozen=True):
    """What the client process reads from its standard input."""

    load: Load
    target: Target


class StreamSeen(msgspec.Struct):
    """One stream as its client saw it. ``latencies`` belong to ``arrivals``, word by word."""

    sent: int
    ended: int = 0
    first: int = 0
    error: str = ""
    arrivals: list[int] = []
    latencies: list[int] = []


class Observation(msgspec.Struct):
    """Everything that the client process saw. ``started`` and ``ended`` enclose it."""

    started: int
    ended: int
    cpu: float
    """Seconds of the client process: it shares the machine, so a busy client spoils a latency."""
    streams: list[StreamSeen]

    @property
    def errors(self) -> list[str]:
        return [seen.error for seen in self.streams if seen.error]

    @property
    def seconds(self) -> float:
        return (self.ended - self.started) / 1e9

    def latencies(self, since: int = 0, until: int | None = None) -> list[float]:
        """Milliseconds that each word needed, of the words that arrived in a window."""
        return [
            latency / 1e6
            for seen in self.streams
            for arrival, latency in zip(seen.arrivals, seen.latencies, strict=True)
            if arrival >= since and (until is None or arrival < until)
        ]

    def firsts(self) -> list[float]:
        """Milliseconds from sending each request to reading its first word."""
        return [(seen.first - seen.sent) / 1e6 for seen in self.streams if seen.first]

    def totals(self) -> list[float]:
        """Seconds that each stream took."""
        return [(seen.ended - seen.sent) / 1e9 for seen in self.streams if seen.ended]

    def chunks(self, since: int, until: int) -> int:
        """Words that arrived in a window."""
        return sum(since <= arrival < until for seen in self.streams for arrival in seen.arrivals)


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile; 0 of nothing."""
    ordered: Sequence[float] = sorted(values)
    return ordered[min(len(ordered) - 1, int(share / 100 * len(ordered)))] if ordered else 0.0
