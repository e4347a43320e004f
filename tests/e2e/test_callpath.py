"""`make path` measures what it says: the way of a request and of a chunk through both processes, and the packages."""

from __future__ import annotations

from pathlib import Path

from callpath.__main__ import HERE, report, sizes
from callpath.measuring import measure


async def test_a_request_goes_through_both_processes_and_a_chunk_through_few_functions(tmp_path: Path) -> None:
    found = await measure(HERE, tmp_path, requests=2)
    for process in ("gateway", "worker"):
        request, chunk = found.request[process], found.chunk[process]
        assert len(request.functions) > len(chunk.functions) > 0
        assert request.depth >= chunk.depth > 0
    chunk_files = {Path(file).name for path in found.chunk.values() for file, _ in path.functions}
    assert {"fenced_stream.py", "publisher.py", "hub.py", "relay.py"} <= chunk_files
    assert not any("railstream.testing" in name for _, name in found.request["worker"].functions)
    assert "one chunk after that, both" in report(found)


def test_the_sizes_of_all_packages_are_summed_up() -> None:
    rows = [line.split() for line in sizes(HERE).splitlines() if line.startswith(("railstream", "all"))]
    lines = {name: int(count.replace(",", "")) for name, count, *_ in rows}
    assert sum(lines.values()) == 2 * lines["all"] > 0
