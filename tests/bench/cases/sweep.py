"""How the cost of a chunk moves with the number of open streams, and with the number of workers."""

from __future__ import annotations

from bench.budget import FLAT
from bench.load import Load
from bench.measuring import Cost, idle_rates, measure, solve, warm_up
from bench.results import Row
from bench.settings import Bench
from bench.systems import railstream

CHUNKS_PER_SECOND = 2500
"""Offered at every number of streams, so that only their number changes."""
SECONDS = (5, 20)
"""Lengths of the two runs."""


async def sweep(bench: Bench) -> None:
    settings = bench.settings
    by_streams = {}
    for streams in (5,) if settings.smoke else (50, 100, 200, 500, 1000):
        by_streams[streams] = await _costs(bench, streams, workers=1)
        bench.findings.say(f"  {streams} streams: {by_streams[streams]['all'].chunks:.1f} CPU-s/100k")
    by_workers = {}
    for workers in (2,) if settings.smoke else (1, 2, 3, 4):
        by_workers[workers] = await _costs(bench, settings.scaled(200, 5), workers)
        bench.findings.say(f"  {workers} workers: {by_workers[workers]['all'].chunks:.1f} CPU-s/100k")
    costs = [cost["all"].chunks for cost in by_streams.values()]
    spread = (max(costs) - min(costs)) / (max(costs) + min(costs)) * 100
    name = f"cost per chunk, {min(by_streams)} to {max(by_streams)} open streams, moves by ±"
    bench.findings.add(Row("sweep", name, spread, "%", FLAT))
    for streams, cost in by_streams.items():
        bench.findings.add(Row("sweep", f"all, per chunk, {streams} open streams", cost["all"].chunks, "CPU-s/100k"))
    for workers, cost in by_workers.items():
        bench.findings.add(Row("sweep", f"all, per chunk, {workers} workers", cost["all"].chunks, "CPU-s/100k"))
    bench.findings.details["sweep"] = {
        "streams": {streams: _json(cost) for streams, cost in by_streams.items()},
        "workers": {workers: _json(cost) for workers, cost in by_workers.items()},
    }


async def _costs(bench: Bench, streams: int, workers: int) -> dict[str, Cost]:
    rate = CHUNKS_PER_SECOND / streams if not bench.settings.smoke else 20
    lengths = [1, 2] if bench.settings.smoke else SECONDS
    async with railstream(
        bench.upstream, bench.room(), config=bench.settings.config, workers=workers, concurrency=1024
    ) as system:
        await warm_up(system, streams)
        idle = await idle_rates(system)
        # Their starts are spread over one gap between two words, so that the streams do not tick together.
        ramp = max(1 / rate, streams / 200)
        short, long = [
            await measure(system, Load(streams, int(rate * seconds), rate, ramp=ramp), idle) for seconds in lengths
        ]
        return solve(short, long)


def _json(costs: dict[str, Cost]) -> dict[str, dict[str, float]]:
    return {
        part: {"cpu_s_per_100k": round(cost.chunks, 2), "cpu_ms_per_request": round(cost.request, 2)}
        for part, cost in costs.items()
    }
