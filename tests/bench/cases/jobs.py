"""Jobs per second by the number of workers: where slots are what is scarce it grows with them, to the machine's end."""

from __future__ import annotations

from bench.load import Load
from bench.measuring import measure, warm_up
from bench.results import Row
from bench.settings import Bench
from bench.systems import railstream

SLOTS = 8
SECONDS = 0.4
"""Of one job, spent waiting for the upstream: with few slots a worker is full long before a core is."""


async def jobs(bench: Bench) -> None:
    numbers = (1, 2) if bench.settings.smoke else (1, 2, 4)
    waiting, working = {}, {}
    for workers in numbers:
        waiting[workers], working[workers] = await _per_second(bench, workers)
    first, last = numbers[0], numbers[-1]
    for workers in numbers:
        note = f"{SLOTS} slots each, {SECONDS:g} s a job"
        bench.findings.add(Row("jobs", f"jobs/s, {workers} workers that wait", waiting[workers], "1/s", note=note))
    share = waiting[last] / waiting[first] / (last / first) * 100
    bench.findings.add(Row("jobs", f"of linear growth, {first} to {last} workers", share, "%", 80, at_least=True))
    for workers in numbers:
        name = f"jobs/s, {workers} workers, one word each"
        bench.findings.add(Row("jobs", name, working[workers], "1/s", note="all processes share this machine's cores"))
    bench.findings.details["jobs"] = {"waiting": waiting, "working": working}


async def _per_second(bench: Bench, workers: int) -> tuple[float, float]:
    """Of jobs that wait for their upstream, and of jobs that are work."""
    scaled = bench.settings.scaled
    waiting = Load(scaled(120, 4) * workers, 1, rate=0, delay_first=scaled(400, 100) / 1000)
    working = Load(scaled(600, 10), 1, rate=0)
    async with railstream(
        bench.upstream, bench.room(), config=bench.settings.config, workers=workers, concurrency=SLOTS
    ) as system:
        await warm_up(system, SLOTS * workers)
        runs = [await measure(system, load) for load in (waiting, working)]
    slow, fast = (run.load.streams / run.seen.seconds for run in runs)
    return slow, fast
