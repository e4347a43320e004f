"""How much later the first chunk comes than straight from the upstream: requests that arrive while others stream."""

from __future__ import annotations

from bench.budget import FIRST_P50, FIRST_P99
from bench.load import Load
from bench.measuring import Run, measure, warm_up
from bench.results import Row
from bench.settings import Bench
from bench.systems import railstream, straight


async def first(bench: Bench) -> None:
    direct, run = await first_chunks(bench, "none")
    add_rows(bench, "first", direct, run)


async def first_chunks(bench: Bench, config: str) -> tuple[Run, Run]:
    """Straight and through Railstream: 25 requests a second, so 100 streams are open."""
    settings = bench.settings
    arriving = Load(settings.scaled(400, 10), settings.scaled(100, 10), 25, ramp=settings.scaled(16, 1))
    async with straight(bench.upstream) as system:
        direct = await measure(system, arriving)
    async with railstream(bench.upstream, bench.room(), config=config) as system:
        await warm_up(system, settings.streams)
        return direct, await measure(system, arriving)


def add_rows(bench: Bench, case: str, direct: Run, run: Run) -> None:
    added = {share: run.first(share) - direct.first(50) for share in (50, 99)}
    note = f"straight {direct.first(50):.1f} ms"
    bench.findings.add(
        Row(case, "added to the first chunk, p50", added[50], "ms", FIRST_P50, note=note),
        Row(case, "added to the first chunk, p99", added[99], "ms", FIRST_P99),
    )
    bench.findings.details[case] = {"straight": direct.summary(), "railstream": run.summary()}
