"""Times between chunks, handed to the SDK once per call instead of once per chunk.

One ``Histogram.record`` costs about 7 microseconds, a tenth of all that a chunk may cost. So a call counts its gaps
into the histogram's own buckets, and records them as one number that carries the counts. Our view's aggregation
adds the counts; any other reads the number itself, which is the mean gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from railstream.telemetry.names import CALL_METRICS, SECONDS_BOUNDS


class Gaps(float):
    """The mean gap of a call in seconds, with ``counts`` per bucket of `SECONDS_BOUNDS`."""

    __slots__ = ("counts", "longest", "shortest", "total")

    counts: Sequence[int]
    total: float
    shortest: float
    longest: float

    @classmethod
    def of(cls, counts: Sequence[int], total: float, shortest: float, longest: float) -> Gaps:
        gaps = cls(total / sum(counts))
        gaps.counts, gaps.total, gaps.shortest, gaps.longest = counts, total, shortest, longest
        return gaps


def views() -> list[Any]:
    """SDK views that count each gap of a `Gaps`; give them to a ``MeterProvider`` of your own.

    Empty when this SDK's histogram cannot be added to: means are then recorded, one per call.
    """
    from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View

    class CountedGaps(ExplicitBucketHistogramAggregation):
        def _create_aggregation(self, *args: Any, **options: Any) -> Any:
            return _counting(super()._create_aggregation(*args, **options))

    counted = CountedGaps(SECONDS_BOUNDS)
    if not _adds_up(counted):
        return []
    names = [row.name for row in CALL_METRICS if row.measure == "per_chunk"]
    return [View(instrument_name=name, aggregation=counted) for name in names]


def _counting(histogram: Any) -> Any:
    """The SDK's histogram of one attribute set, taught to take many gaps at once."""
    plain = histogram.aggregate

    def aggregate(measurement: Any, should_sample_exemplar: bool = True) -> None:
        gaps = measurement.value
        if not isinstance(gaps, Gaps):
            return plain(measurement, should_sample_exemplar)  # type: ignore[no-any-return]
        with histogram._lock:
            counts = histogram._value or [0] * len(gaps.counts)
            histogram._value = [old + new for old, new in zip(counts, gaps.counts, strict=True)]
            histogram._sum += gaps.total
            histogram._min = min(histogram._min, gaps.shortest)
            histogram._max = max(histogram._max, gaps.longest)

    histogram.aggregate = aggregate
    return histogram


def _adds_up(aggregation: Any) -> bool:
    """Whether two gaps come out as two: the SDK's histogram is not ours, and may change inside."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.metrics.view import View

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], views=[View(instrument_name="gaps", aggregation=aggregation)])
    try:
        histogram = provider.get_meter("railstream").create_histogram("gaps")
        histogram.record(Gaps.of([2] + [0] * len(SECONDS_BOUNDS), 0.004, 0.001, 0.003))
        data: Any = reader.get_metrics_data()
        point = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
        return (point.count, point.sum, point.max) == (2, 0.004, 0.003)
    except Exception:  # whatever breaks inside the SDK, telemetry must not stop a start
        return False
    finally:
        provider.shutdown()
