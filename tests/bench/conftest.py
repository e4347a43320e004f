"""The marker of the benchmarks' smoke runs."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "bench_smoke: a benchmark case with as little load as shows that it works")
