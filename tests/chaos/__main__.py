"""``make chaos``: break everything for a while, and say what that cost. Exit status 1 when anything was lost."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import random
import tempfile
import time
from pathlib import Path

from chaos.marathon import Plan, run
from chaos.report import figures, table, write


def main() -> int:
    options = vars(_parser().parse_args())
    output, keep = options.pop("json"), options.pop("keep")
    plan = Plan(**options)
    print(f"seed {plan.seed}: the same questions and faults again with --seed {plan.seed}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="railstream-chaos-"))
    print(f"logs of every process in {directory}", flush=True)
    began = time.monotonic()
    ran = asyncio.run(run(plan, directory, lambda line: print(line, flush=True)))
    found = figures(ran, time.monotonic() - began)
    write(found, output)
    print(f"\n{table(found)}\n\n{output} has all of it.")
    failed = bool(found["wrong"])
    if failed or keep:
        print(f"{len(found['wrong'])} breaches; the logs are kept.")
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m chaos", description=__doc__)
    for field in dataclasses.fields(Plan):
        default = random.randrange(10**9) if field.name == "seed" else field.default
        kind = float if isinstance(default, float) else int
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=default)
    parser.add_argument("--json", type=Path, default=Path("chaos.json"), help="where the figures go")
    parser.add_argument("--keep", action="store_true", help="say where the logs are even when all is well")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
