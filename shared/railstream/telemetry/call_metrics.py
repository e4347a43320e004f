"""Both families of GenAI metrics of a call, made from the one table in `names`."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter
from opentelemetry.util.types import AttributeValue

from railstream.events import Usage
from railstream.telemetry.names import CALL_METRICS, TOKEN_MODALITY, TOKEN_TYPE, Measure

Labels = Mapping[str, AttributeValue]


class CallMetrics:
    """``context`` is the call's, so that exemplars lead from a bucket to a trace."""

    def __init__(self, meter: Meter, *, latest_only: bool) -> None:
        self._histograms: dict[Measure, list[Histogram]] = {}
        self._counters: dict[Measure, list[Counter]] = {}
        for row in CALL_METRICS:
            if row.older and latest_only:
                continue
            if row.bounds:
                histogram = meter.create_histogram(
                    row.name, row.unit, row.description, explicit_bucket_boundaries_advisory=row.bounds
                )
                self._histograms.setdefault(row.measure, []).append(histogram)
            else:
                counter = meter.create_counter(row.name, row.unit, row.description)
                self._counters.setdefault(row.measure, []).append(counter)

    def duration(self, seconds: float, labels: Labels, context: Context) -> None:
        self._record("duration", seconds, labels, context)

    def first_chunk(self, seconds: float, labels: Labels, context: Context) -> None:
        self._record("first_chunk", seconds, labels, context)

    def per_chunk(self, seconds: float, labels: Labels, context: Context) -> None:
        self._record("per_chunk", seconds, labels, context)

    def tokens(self, usage: Usage, labels: Labels, context: Context) -> None:
        """What the provider has counted; a bucket that it did not name is not recorded as zero."""
        by_modality = {**labels, TOKEN_MODALITY: "unknown"}
        if usage.input_tokens is not None:
            self._record("by_type", usage.input_tokens, {**labels, TOKEN_TYPE: "input"}, context)
            self._record("call_input", usage.input_tokens, by_modality, context)
            self._add("input", usage.input_tokens, by_modality, context)
        if usage.output_tokens is not None:
            self._record("by_type", usage.output_tokens, {**labels, TOKEN_TYPE: "output"}, context)
            self._record("call_output", usage.output_tokens, by_modality, context)
            self._add("output", usage.output_tokens, by_modality, context)
        if usage.cached_input_tokens:
            self._add("cache_read", usage.cached_input_tokens, by_modality, context)
        if usage.cache_write_input_tokens:
            self._add("cache_write", usage.cache_write_input_tokens, by_modality, context)
        if usage.reasoning_tokens:
            self._add("reasoning", usage.reasoning_tokens, by_modality, context)

    def _record(self, measure: Measure, value: float, labels: Labels, context: Context) -> None:
        for histogram in self._histograms.get(measure, ()):
            histogram.record(value, labels, context)

    def _add(self, measure: Measure, value: int, labels: Labels, context: Context) -> None:
        for counter in self._counters.get(measure, ()):
            counter.add(value, labels, context)
