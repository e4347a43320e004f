"""The budget: what a chunk, a request, a wait and a stream may cost, and the rows that hold runs against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bench.measuring import Cost, Run
from bench.results import Row

COSTS: Final = {"gateway": Cost(2.5, 2), "redis": Cost(1.5, 0.5), "worker": Cost(4, 3.5), "all": Cost(8, 6)}
"""CPU-seconds per 100,000 chunks and CPU-milliseconds per request, with a regex rail."""

NEMO_REGEX: Final = Cost(22, 32)
NEMO: Final = Cost(20, 25)
LITELLM: Final = Cost(53, 58)
"""What the peers cost when they were measured for the budget; ``--peers`` measures them here."""

PER_CHUNK_P50, PER_CHUNK_P99, PER_CHUNK_P99_WIDE = 3, 25, 50
"""Milliseconds, at 100 streams x 25/s; the last at 500 x 20/s."""
FIRST_P50, FIRST_P99 = 15, 60
"""Milliseconds that the first chunk comes later than straight from the upstream."""
GATEWAY_KB, WORKER_KB, REDIS_KB = 60, 100, 20
"""Kilobytes per open stream, per generation, per stream of 500 tokens."""
FLAT = 20
"""Percent that the cost of a chunk may move from 50 to 1,000 open streams."""
UNMOVED_FACTOR, UNMOVED_MS = 1.5, 5
"""What still counts as the same p99: noise of a shared machine."""


def cost_rows(case: str, costs: Mapping[str, Cost]) -> list[Row]:
    """Both costs of every part."""
    rows = []
    for part, limit in COSTS.items():
        cost = costs[part]
        rows.append(Row(case, f"{part}, per chunk", cost.chunks, "CPU-s/100k", limit.chunks))
        rows.append(Row(case, f"{part}, per request", cost.request, "CPU-ms", limit.request))
    return rows


def total_rows(case: str, short: Run, long: Run) -> list[Row]:
    """All that a run cost, its requests included, at two lengths of the answer."""
    rows = []
    for run in (short, long):
        words = run.load.words
        limit = COSTS["all"].chunks + COSTS["all"].request / words * 100
        peer = NEMO_REGEX.chunks + NEMO_REGEX.request / words * 100
        note = f"NeMo with the same rail, at the budget's making: {peer:.1f}"
        rows.append(Row(case, f"all, {words}-word answers", run.total_per_100k, "CPU-s/100k", limit, note=note))
    return rows


def latency_rows(case: str, run: Run, *, wide: bool = False) -> list[Row]:
    load = run.load
    name = f"added per chunk, {load.streams} x {load.rate:g}/s"
    p99 = PER_CHUNK_P99_WIDE if wide else PER_CHUNK_P99
    return [
        Row(case, f"{name}, p50", run.latency(50), "ms", None if wide else PER_CHUNK_P50),
        Row(case, f"{name}, p99", run.latency(99), "ms", p99, note=f"max {run.latency(100):.0f} ms"),
    ]


def unmoved(before: float) -> float:
    """The most that a p99 may be and still count as the one before."""
    return before * UNMOVED_FACTOR + UNMOVED_MS
