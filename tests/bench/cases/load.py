"""What chunks and requests cost: two lengths of answer solve for both, beside the latency that a chunk gains."""

from __future__ import annotations

from bench.budget import cost_rows, latency_rows, total_rows
from bench.load import Load
from bench.measuring import Run, idle_rates, measure, middle, solve, warm_up
from bench.results import Row
from bench.settings import Bench
from bench.systems import System, railstream, straight


async def load(bench: Bench) -> None:
    settings, findings = bench.settings, bench.findings
    async with straight(bench.upstream) as system:
        direct = await measure(system, Load(settings.streams, settings.words, settings.rate))
    findings.add(Row("load", "straight to the upstream, per chunk, p99", direct.latency(99), "ms"))
    async with railstream(
        bench.upstream,
        bench.room(),
        config=settings.config,
        gateways=settings.gateways,
        workers=settings.workers,
        concurrency=max(512, settings.streams),
    ) as system:
        short, long = await both_lengths(bench, system)
        findings.add(*cost_rows("load", solve(short, long)), *total_rows("load", short, long))
        findings.add(*latency_rows("load", long))
        details = {"straight": direct.summary(), "short": short.summary(), "long": long.summary()}
        findings.details["load"] = details
        wide = Load(settings.scaled(500, 8), settings.scaled(200, 10), 20, ramp=settings.scaled(10, 0))
        await warm_up(system, wide.streams)
        run = await measure(system, wide)
        findings.add(*latency_rows("load", run, wide=True))
        details["wide"] = run.summary()


async def both_lengths(bench: Bench, system: System) -> tuple[Run, Run]:
    """The short and the long run of median cost."""
    settings = bench.settings
    await warm_up(system, settings.streams)
    idle = await idle_rates(system, settings.scaled(3, 1))
    runs: dict[int, list[Run]] = {settings.words: [], settings.long_words: []}
    for _ in range(settings.repeat):
        for words, kept in runs.items():
            run = await measure(system, Load(settings.streams, words, settings.rate), idle)
            bench.findings.say(f"  {system.name}, {words} words: {run.total_per_100k:.1f} CPU-s/100k")
            kept.append(run)
    return middle(runs[settings.words]), middle(runs[settings.long_words])
