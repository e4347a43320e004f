"""One run: a load on a system, and what its processes spent on it, net of what they spend when nothing happens."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.load import Load, Observation, Order, percentile
from bench.processes import MemoryWatch, cpu_seconds, machine_seconds
from bench.systems import System

TESTS = Path(__file__).parent.parent
SETTLE = 0.4
"""Seconds after a load in which its ends are acknowledged."""
IDLE = 2.0
"""Seconds over which idle processes are watched."""
MARGIN = 0.25
"""Share of a run's length, at each end, that is not part of its steady middle."""


class LoadFailed(Exception):
    """Streams were refused, cut, or brought another text than they should."""


@dataclass(frozen=True, slots=True)
class Run:
    """CPU in seconds by part, net of idle; memory in bytes by part."""

    load: Load
    seen: Observation
    cpu: Mapping[str, float]
    memory: Mapping[str, int]
    growth: Mapping[str, int]
    others: float
    """Cores that processes outside this benchmark kept busy meanwhile: the noise."""
    busy: float
    """Cores that were busy in all."""

    @property
    def chunks(self) -> int:
        return self.load.streams * self.load.words

    @property
    def per_100k(self) -> dict[str, float]:
        """CPU-seconds per 100,000 chunks by part, requests included."""
        return {part: seconds / self.chunks * 1e5 for part, seconds in self.cpu.items()}

    @property
    def total_per_100k(self) -> float:
        return sum(self.cpu.values()) / self.chunks * 1e5

    def latency(self, share: float) -> float:
        return percentile(self.seen.latencies(), share)

    def first(self, share: float) -> float:
        return percentile(self.seen.firsts(), share)

    def total(self, share: float) -> float:
        return percentile(self.seen.totals(), share)

    def summary(self) -> dict[str, object]:
        """As it stands in the JSON."""
        latencies = self.seen.latencies()
        return {
            "streams": self.load.streams,
            "words": self.load.words,
            "rate": self.load.rate,
            "ramp_s": self.load.ramp,
            "cpu_s_per_100k": _rounded(self.per_100k) | {"all": round(self.total_per_100k, 2)},
            "added_ms": {f"p{share:g}": round(percentile(latencies, share), 2) for share in (50, 99, 99.9, 100)},
            "first_ms": {f"p{share:g}": round(self.first(share), 1) for share in (50, 99, 100)},
            "total_s": {f"p{share:g}": round(self.total(share), 2) for share in (50, 100)},
            "memory_mb": {part: round(size / 1e6, 1) for part, size in self.memory.items()},
            "client_cores": round(self.seen.cpu / self.seen.seconds, 2),
            "busy_cores": round(self.busy, 2),
            "other_cores": round(self.others, 2),
        }


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of one part: seconds per 100,000 chunks, and milliseconds per request."""

    chunks: float
    request: float


def solve(short: Run, long: Run) -> dict[str, Cost]:
    """Two runs of different length give both costs of each part, and of all together."""
    requests = short.load.streams
    assert requests == long.load.streams, "both runs need the same number of streams"

    def cost(small: float, large: float) -> Cost:
        per_chunk = (large - small) / (long.chunks - short.chunks)
        return Cost(per_chunk * 1e5, (small - per_chunk * short.chunks) / requests * 1e3)

    parts = {part: cost(short.cpu[part], long.cpu[part]) for part in short.cpu}
    return parts | {"all": cost(sum(short.cpu.values()), sum(long.cpu.values()))}


async def offer(system: System, load: Load) -> Observation:
    """Put the load on the system from a process of its own, and check every stream."""
    order = msgspec.json.encode(Order(load, system.target))
    # A file takes what the client saw: on a busy machine a pipe of this loop was closed with 64 KiB of it read.
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.client",
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            env=os.environ | {"PYTHONPATH": str(TESTS)},
        )
        try:
            await process.communicate(order)
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            raise LoadFailed(f"the load client ended with {process.returncode}")
        output.seek(0)
        seen = msgspec.msgpack.decode(output.read(), type=Observation)
    if errors := seen.errors:
        raise LoadFailed(f"{system.name}: {len(errors)} of {load.streams} streams are wrong; the first: {errors[0]}")
    return seen


async def warm_up(system: System, streams: int) -> None:
    """Open what is opened on first use: connections, imports, compiled patterns."""
    await offer(system, Load(streams, 10, rate=25))
    await asyncio.sleep(SETTLE)


async def idle_rates(system: System, seconds: float = IDLE) -> dict[str, float]:
    """CPU-seconds per second that each part spends on nothing."""
    before = cpu_seconds(system.parts)
    await asyncio.sleep(seconds)
    after = cpu_seconds(system.parts)
    return {part: (after[part] - before[part]) / seconds for part in before}


async def measure(system: System, load: Load, idle: Mapping[str, float] | None = None) -> Run:
    """One run. ``idle``: what `idle_rates` said of this system, if it was asked."""
    rates = idle or {}
    watched = {**system.parts, "upstream": (system.upstream.pid,), "bench": (os.getpid(),)}
    async with MemoryWatch(system.parts) as memory:
        before, machine, began = cpu_seconds(watched), machine_seconds(), time.monotonic()
        seen = await offer(system, load)
        await asyncio.sleep(SETTLE)
        after, machine, elapsed = cpu_seconds(watched), machine_seconds() - machine, time.monotonic() - began
    spent = {part: after[part] - before[part] for part in watched}
    ours = sum(spent.values()) + seen.cpu
    net = {part: max(0.0, spent[part] - rates.get(part, 0.0) * elapsed) for part in system.parts}
    others = max(0.0, machine - ours) / elapsed
    return Run(load, seen, net, memory.peak, memory.growth, others, machine / elapsed)


def middle(runs: Sequence[Run]) -> Run:
    """The run of median cost."""
    return sorted(runs, key=lambda run: run.total_per_100k)[len(runs) // 2]


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}
