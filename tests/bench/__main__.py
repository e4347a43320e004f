"""``make bench``: run cases, print the table of the budget, write the JSON. ``ARGS="--help"`` lists what can be set."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from bench.budget import COSTS
from bench.cases import CASES
from bench.containers import UpstreamContainer, compose
from bench.measuring import LoadFailed
from bench.peers import CACHE, side_by_side
from bench.plot import draw
from bench.report import machine, save, show
from bench.results import Findings
from bench.settings import Bench, Case, Settings
from bench.systems import CONFIGS, running_upstream

DEFAULT = ("load", "first", "rails", "judge", "memory", "head_of_line", "jobs")
"""All but the sweep, which takes as long as they do together."""
PEERS = "peers"
"""In the place of a case: nothing but the side-by-side table."""
COMPOSE = "compose"
"""In the place of all cases: the load on the containers of ``docker compose --profile upstream``, which run already."""
PLOT = Path(__file__).parent / "scaling.svg"


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    findings, about = Findings(), machine()
    with tempfile.TemporaryDirectory(prefix="railstream-bench-") as directory:
        failed = asyncio.run(_run(options, findings, Path(directory)))
    about["load_average_after"] = [round(value, 2) for value in os.getloadavg()]
    show(findings, about)
    save(findings, about, options.json)
    print(f"written: {options.json}")
    if "sweep" in findings.details and not options.smoke:
        said = f"{about['cores']} x {about['cpu']}, {about['date'][:10]}, commit {about['commit']}, a regex rail on"
        draw(findings.details["sweep"], PLOT, budget=COSTS["all"].chunks, about=said)
        print(f"written: {PLOT}")
    return 1 if failed else 0


async def _run(options: argparse.Namespace, findings: Findings, directory: Path) -> bool:
    """Every case, each after the one before; one that fails does not stop the others. Whether one did."""
    settings = Settings(
        streams=options.streams,
        words=options.words,
        long_words=options.long_words,
        rate=options.rate,
        gateways=options.gateways,
        workers=options.workers,
        config=options.config,
        repeat=options.repeat,
        smoke=options.smoke,
    )
    if options.compose:
        return await _case(Bench(settings, await UpstreamContainer.find(), directory, findings), COMPOSE, compose)
    failed = False
    async with running_upstream(directory / "upstream") as upstream:
        bench = Bench(settings, upstream, directory, findings)
        for name in options.cases:
            failed |= await _case(bench, name, CASES[name])
        if options.peers:
            await side_by_side(bench, Path(options.dir))
    return failed


async def _case(bench: Bench, name: str, case: Case) -> bool:
    began = time.monotonic()
    print(f"{name} …", flush=True)
    try:
        await case(bench)
    except (LoadFailed, TimeoutError, RuntimeError) as error:
        print(f"{name} failed: {error}", file=sys.stderr)
        bench.findings.details[name] = {"failed": str(error)}
        return True
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return False


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    default = Settings()
    parser = argparse.ArgumentParser("make bench", description=__doc__)
    of = ", ".join([*CASES, PEERS, COMPOSE])
    parser.add_argument("cases", nargs="*", help=f"of {of}; default: {', '.join(DEFAULT)}")
    parser.add_argument("--streams", type=int, default=default.streams)
    parser.add_argument("--words", type=int, default=default.words, help="of the short answers")
    parser.add_argument("--long-words", type=int, default=default.long_words)
    parser.add_argument("--rate", type=float, default=default.rate, help="words per second of one stream")
    parser.add_argument("--gateways", type=int, default=default.gateways)
    parser.add_argument("--workers", type=int, default=default.workers)
    parser.add_argument("--config", choices=CONFIGS, default=default.config)
    parser.add_argument("--repeat", type=int, default=default.repeat, help="runs of each length; the median counts")
    parser.add_argument("--smoke", action="store_true", help="as little as shows that a case works")
    peers = os.environ.get("PEERS", "") not in ("", "0")
    parser.add_argument("--peers", action="store_true", default=peers, help="the same load on the peers; PEERS=1")
    parser.add_argument("--dir", default=CACHE, help="where the peers are installed; BENCH_DIR")
    parser.add_argument("--json", type=Path, default=Path("bench-results.json"), help="where the figures are written")
    options = parser.parse_args(arguments)
    options.compose = options.cases == [COMPOSE]
    if options.compose:
        options.cases = []
    elif PEERS in options.cases:
        options.peers = True
        options.cases.remove(PEERS)
    elif not options.cases:
        options.cases = list(DEFAULT)
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    if options.smoke:
        options.streams, options.words, options.long_words = 5, 10, 20
    return options


if __name__ == "__main__":
    sys.exit(main())
