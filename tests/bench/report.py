"""The tables that a person reads and the JSON that a script does; both say on what machine, and how busy it was."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from bench.results import Findings, Row

PLAIN_WIDTH = 170
"""Columns of a table that goes into a file."""
STYLES = {"kept": "green", "missed": "bold red", "": ""}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": sys.version,
        "kernel": platform.release(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def show(findings: Findings, about: dict[str, Any], console: Console | None = None) -> None:
    console = console or Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    python = f"Python {platform.python_version()}"
    title = f"Railstream · {about['cores']} x {about['cpu']} · {python} · {about['date']} · {about['commit']}"
    console.print(budget_table(findings.rows, title))
    if runs := findings.details.get("peers"):
        console.print(peers_table(runs))
    judged = [row for row in findings.rows if row.verdict]
    console.print(f"{len(judged) - len(findings.missed)} of {len(judged)} rows of the budget are kept.")


def budget_table(rows: Sequence[Row], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name, justify in (("case", "left"), ("figure", "left"), ("measured", "right"), ("budget", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("verdict")
    table.add_column("note", style="dim")
    for row in rows:
        verdict = f"[{STYLES[row.verdict]}]{row.verdict}[/]" if row.verdict else ""
        table.add_row(row.case, row.name, f"{row.value:.1f} {row.unit}", row.budget, verdict, row.note)
    return table


def peers_table(runs: Sequence[dict[str, Any]]) -> Table:
    """The same load on each system, one below the other."""
    table = Table(title="Side by side, one run, one client", title_justify="left")
    for name in ("system", "CPU-s/100k", "long answers", "CPU-s/100k chunks", "CPU-ms/request"):
        table.add_column(name, justify="left" if name == "system" else "right")
    for name in ("added p50 / p99", "first p50", "memory", "others"):
        table.add_column(name, justify="right")
    for run in runs:
        short, long, cost = run["short"], run.get("long"), run.get("cost")
        added, counted = short["added_ms"], bool(short["memory_mb"])
        table.add_row(
            run["system"],
            f"{short['cpu_s_per_100k']['all']:.1f}" if counted else "-",
            f"{long['cpu_s_per_100k']['all']:.1f}" if long and counted else "-",
            f"{cost['chunks']:.1f}" if cost else "-",
            f"{cost['request']:.1f}" if cost else "-",
            f"{added['p50']:.1f} / {added['p99']:.0f} ms",
            f"{short['first_ms']['p50']:.0f} ms",
            f"{sum(short['memory_mb'].values()):.0f} MB" if counted else "-",
            f"{short['other_cores']:.2f} cores",
        )
    return table


def save(findings: Findings, about: dict[str, Any], path: Path) -> None:
    whole = {"machine": about, "rows": [row.as_json() for row in findings.rows], "details": findings.details}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown commit"
