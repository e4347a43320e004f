"""``make path``: through how many functions and files a request and a chunk go, and how large each package is.

``--root DIR`` measures another checkout with this one's instruments; ``--names`` prints the functions.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from callpath.measuring import Measured, measure
from callpath.sizes import measured

HERE = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser("make path", description=__doc__)
    parser.add_argument("--root", type=Path, default=HERE, help="the checkout to measure")
    parser.add_argument("--names", action="store_true", help="print the functions of a request and of a chunk")
    options = parser.parse_args()
    root = options.root.resolve()
    with tempfile.TemporaryDirectory() as directory:
        found = asyncio.run(measure(root, Path(directory)))
    print(report(found, names=options.names))
    print(sizes(root))


def report(found: Measured, *, names: bool = False) -> str:
    lines = [f"{'':34}{'functions':>10}{'files':>8}{'calls':>8}{'depth':>8}"]
    for title, by_process in (("request to its second frame", found.request), ("one chunk after that", found.chunk)):
        for process, path in by_process.items():
            lines.append(_line(f"{title}, {process}", len(path.functions), path.files, path.calls, path.depth))
        functions = frozenset().union(*(path.functions for path in by_process.values()))
        files = len({file for file, _ in functions})
        calls = sum(path.calls for path in by_process.values())
        depth = max(path.depth for path in by_process.values())
        lines.append(_line(f"{title}, both", len(functions), files, calls, depth))
        if names:
            lines += [f"    {name}" for _, name in sorted(functions, key=lambda each: each[1])]
    return "\n".join(lines)


def sizes(root: Path) -> str:
    lines = [f"\n{'package':34}{'lines':>10}{'files':>8}{'classes':>8}{'functions':>11}"]
    for size in measured(root):
        lines.append(f"{size.package:34}{size.lines:>10,}{size.files:>8}{size.classes:>8}{size.functions:>11,}")
    return "\n".join(lines)


def _line(title: str, functions: int, files: int, calls: int, depth: int) -> str:
    return f"{title:38}{functions:>6}{files:>8}{calls:>8}{depth:>8}"


if __name__ == "__main__":
    main()
