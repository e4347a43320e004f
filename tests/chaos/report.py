"""The table of a run: what was injected, and what was lost, doubled or hidden by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chaos.faults import JOB_STREAM_LOSSES
from chaos.marathon import Marathon, totals
from chaos.refusals import REFUSALS
from chaos.takeovers import quantile
from chaos.world import LEASE, SCAN

BREACHES = ("lost", "doubled", "hidden", "failed", "money")
FAULTS = (
    "worker kills",
    "streams whose worker was killed",
    "zombies",
    "gateway kills",
    "redis kills",
    "failovers",
    "network faults",
    "cancels",
    *(f"redis refuses writes: {kind}" for kind in REFUSALS),
    *(f"job stream lost: {how}" for how in JOB_STREAM_LOSSES),
    "jobs of a later release",
)


def figures(run: Marathon, seconds: float) -> dict[str, Any]:
    takeovers = run.faults.takeovers
    counts = run.verdict.counts
    return {
        "seed": run.plan.seed,
        "seconds": round(seconds),
        "streams at once": run.plan.streams,
        "requests": counts["requests"],
        "injected": dict(totals(run.faults.injected)),
        "breaches": {name: counts[name] for name in BREACHES},
        "wrong": run.verdict.wrong,
        "takeover": {
            "met by no second fault": _spread(takeovers.alone),
            "all": _spread(takeovers.all),
            "lease + scan": LEASE + SCAN,
        },
        "seen": {name: count for name, count in sorted(counts.items()) if name not in BREACHES},
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {"count": len(seconds)} | {name: round(quantile(seconds, share), 2) for name, share in shares.items()}


def table(found: dict[str, Any]) -> str:
    injected, seen, takeover = found["injected"], found["seen"], found["takeover"]
    rows = [(name, injected.get(name, 0)) for name in FAULTS]
    rows.append(("connections that clients cut or lost, and resumed", seen.get("resumes", 0)))
    rows.append(("requests to a model that continues its own text", seen.get("of models that continue", 0)))
    rows.append(("requests to a model that does not", seen.get("of models that do not", 0)))
    rows.append(("requests to a provider that keeps the run", seen.get("of providers that keep runs", 0)))
    wide = max(len(name) for name, _ in rows)
    lines = [f"| {'fault'.ljust(wide)} | injected |", f"|{'-' * (wide + 2)}|---------:|"]
    lines += [f"| {name.ljust(wide)} | {count:8} |" for name, count in rows]
    lines += ["", "| requests | finished | cancelled | lost | doubled | hidden | failed | wrong usage |"]
    lines += ["|---:|---:|---:|---:|---:|---:|---:|---:|"]
    breaches = " | ".join(str(found["breaches"][name]) for name in BREACHES)
    lines += [f"| {found['requests']} | {seen.get('finished', 0)} | {seen.get('cancelled', 0)} | {breaches} |", ""]
    lines += [
        *(_takeovers(name, takeover[name]) for name in ("met by no second fault", "all")),
        f"Lease + scan: {takeover['lease + scan']} s.",
        f"Losses that a failover made and that were said: {seen.get('gaps said', 0)} gaps, "
        f"{seen.get('losses said', 0)} requests.",
        f"Jobs that were lost with their stream, and whose requests were asked again: "
        f"{seen.get('asked again after a lost job', 0)}.",
        f"Seed {found['seed']}, {found['seconds']} s, {found['streams at once']} streams at once.",
    ]
    return "\n".join(lines)


def _takeovers(name: str, spread: dict[str, float]) -> str:
    return f"Takeovers, {name}: {spread['count']}, p50 {spread['p50']} s, p99 {spread['p99']} s, max {spread['max']} s."


def write(found: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
