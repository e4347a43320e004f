"""Every case runs from its processes to its rows. The figures of so little load mean nothing and are not judged."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.cases import CASES


@pytest.mark.bench_smoke
@pytest.mark.parametrize("case", CASES)
def test_a_case_runs_and_says_what_it_found(case: str, tmp_path: Path) -> None:
    written = tmp_path / "bench-results.json"
    assert main([case, "--smoke", "--json", str(written)]) == 0
    found = json.loads(written.read_text(encoding="utf-8"))
    rows = [row for row in found["rows"] if row["case"] == case]
    assert rows
    assert all(math.isfinite(row["value"]) for row in rows)
    assert case in found["details"]
    assert found["machine"]["cores"] >= 1
