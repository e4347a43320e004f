"""What a telemetry in memory holds, as tests ask for it."""

from __future__ import annotations

from typing import Any, NamedTuple

from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from railstream.telemetry import Telemetry


class Count(NamedTuple):
    """Tokens so far, as a provider tells them."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_tokens: int = 0


class Recording(NamedTuple):
    telemetry: Telemetry
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    @property
    def span(self) -> ReadableSpan:
        (span,) = self.spans
        return span

    def metrics(self) -> dict[str, Any]:
        """Metrics by name, with their data points."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {metric.name: metric for res in data.resource_metrics for s in res.scope_metrics for metric in s.metrics}

    def point(self, name: str, **labels: str) -> Any:
        """The only data point of a metric that has these labels."""
        points = [
            point
            for point in self.metrics()[name].data.data_points
            if all(point.attributes.get(key.replace("__", ".")) == value for key, value in labels.items())
        ]
        (point,) = points
        return point
