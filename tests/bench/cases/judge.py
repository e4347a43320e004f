"""An LLM judge per window: windows are checked while the next are generated, so checking adds one check at most."""

from __future__ import annotations

from bench.load import Load
from bench.measuring import Run, measure, warm_up
from bench.results import Row
from bench.settings import Bench
from bench.systems import JUDGE_SECONDS, railstream

SLACK = 0.25
"""Seconds that a whole answer may take longer on a busy machine."""


async def judge(bench: Bench) -> None:
    settings = bench.settings
    asked = Load(
        settings.streams if not settings.smoke else 5, settings.scaled(200, 60), 25, ramp=settings.scaled(4, 0)
    )
    runs = {config: await _run(bench, config, asked) for config in ("none", "judge")}
    plain, judged = runs["none"].total(50), runs["judge"].total(50)
    limit = plain + JUDGE_SECONDS + SLACK
    note = f"no rail {plain:.2f} s, one check {JUDGE_SECONDS:g} s, slack {SLACK:g} s"
    throughput = {config: run.chunks / run.seen.seconds for config, run in runs.items()}
    bench.findings.add(
        Row("judge", f"total time, {asked.streams} streams, p50", judged, "s", limit, note=note),
        Row(
            "judge",
            "throughput of the run without a rail that is kept",
            throughput["judge"] / throughput["none"] * 100,
            "%",
        ),
        Row("judge", "cost with a judge per window", runs["judge"].total_per_100k, "CPU-s/100k"),
    )
    bench.findings.details["judge"] = {config: run.summary() for config, run in runs.items()}


async def _run(bench: Bench, config: str, asked: Load) -> Run:
    async with railstream(bench.upstream, bench.room(), config=config) as system:
        await warm_up(system, asked.streams)
        return await measure(system, asked)
