"""A `Telemetry` whose spans and metrics stay in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from railstream import telemetry
from railstream.telemetry import Telemetry
from telemetry.recording import Recording


@pytest.fixture
def record() -> Iterator[Callable[..., Recording]]:
    """``record(environ={…}, models=…)``: telemetry of one more process."""
    started: list[Telemetry] = []

    def start(service: str = "railstream-worker", **given: Any) -> Recording:
        exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
        given = {"environ": {}, "models": ("gpt-test",)} | given
        made = telemetry.setup(service, readers=[reader], span_processors=[SimpleSpanProcessor(exporter)], **given)
        started.append(made)
        return Recording(made, exporter, reader)

    yield start
    for one in started:
        one.shutdown()


@pytest.fixture
def recording(record: Callable[..., Recording]) -> Recording:
    return record()
