"""The metrics of LLM calls: raw names, units, bounds and labels of both families."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from opentelemetry.context import Context
from railstream.telemetry.chunk_times import Gaps
from telemetry.recording import Count, Recording

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
OLDER = {
    "gen_ai.client.operation.duration": ("s", SECONDS),
    "gen_ai.client.operation.time_to_first_chunk": ("s", SECONDS),
    "gen_ai.client.operation.time_per_output_chunk": ("s", SECONDS),
    "gen_ai.client.token.usage": ("{token}", TOKENS),
}
CURRENT = {
    "gen_ai.client.inference.duration": ("s", SECONDS),
    "gen_ai.client.inference.time_to_first_chunk": ("s", SECONDS),
    "gen_ai.client.inference.time_per_output_chunk": ("s", SECONDS),
    "gen_ai.client.inference.operation.input_tokens": ("{token}", TOKENS),
    "gen_ai.client.inference.operation.output_tokens": ("{token}", TOKENS),
    "gen_ai.client.inference.usage.input_tokens": ("{token}", None),
    "gen_ai.client.inference.usage.output_tokens": ("{token}", None),
    "gen_ai.client.inference.usage.cache_read.input_tokens": ("{token}", None),
    "gen_ai.client.inference.usage.cache_write.input_tokens": ("{token}", None),
    "gen_ai.client.inference.usage.reasoning.output_tokens": ("{token}", None),
}


class Clock:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def call_once(recording: Recording, *, model: str = "gpt-test", answered: str = "") -> None:
    call = recording.telemetry.calls.start(model=model, provider="openai", parent_context=Context())
    call.response("resp", answered)
    call.chunk()
    call.chunk()
    call.tokens(Count(100, 20, cached_input_tokens=64, cache_write_input_tokens=32, reasoning_tokens=10))
    call.finish(["stop"])


def shapes(recording: Recording) -> dict[str, Any]:
    metrics = recording.metrics().values()
    return {m.name: (m.unit, getattr(m.data.data_points[0], "explicit_bounds", None)) for m in metrics}


def test_both_families_have_the_units_and_bounds_of_the_conventions(recording: Recording) -> None:
    call_once(recording)

    assert shapes(recording) == OLDER | CURRENT


def test_the_stability_variable_drops_the_older_family(record: Any) -> None:
    recording = record(environ={"OTEL_SEMCONV_STABILITY_OPT_IN": "http, gen_ai_latest_experimental"})
    call_once(recording)

    assert shapes(recording) == CURRENT


def test_tokens_are_labelled_by_type_or_by_modality(recording: Recording) -> None:
    call_once(recording, answered="gpt-test-2026")
    shared = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-test",
        "gen_ai.response.model": "gpt-test-2026",
        "railstream.task": "general",
    }

    by_type = recording.metrics()["gen_ai.client.token.usage"].data.data_points
    assert [dict(point.attributes) for point in by_type] == [
        shared | {"gen_ai.token.type": "input"},
        shared | {"gen_ai.token.type": "output"},
    ]
    assert [point.sum for point in by_type] == [100, 20]
    for name, count in {
        "usage.input_tokens": 100,
        "usage.output_tokens": 20,
        "usage.cache_read.input_tokens": 64,
        "usage.cache_write.input_tokens": 32,
        "usage.reasoning.output_tokens": 10,
    }.items():
        point = recording.point(f"gen_ai.client.inference.{name}")
        assert dict(point.attributes) == shared | {"gen_ai.token.modality": "unknown"}
        assert point.value == count


def test_each_gap_between_chunks_is_counted_in_its_bucket(recording: Recording) -> None:
    clock = Clock()
    recording.telemetry.calls.clock = clock
    call = recording.telemetry.calls.start(model="gpt-test", provider="openai", parent_context=Context())
    for seconds, together in ((0.5, 1), (0.005, 1), (0.03, 3), (0.2, 1), (200.0, 1)):
        clock.now += seconds
        call.chunks(together)
    call.finish(["stop"])

    for name in ("gen_ai.client.operation.time_per_output_chunk", "gen_ai.client.inference.time_per_output_chunk"):
        point = recording.point(name)
        assert point.count == 6, "seven chunks have six gaps; two of them had none between"
        assert point.sum == pytest.approx(200.235)
        assert (point.min, point.max) == (0.0, pytest.approx(200.0))
        assert point.bucket_counts == (3, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1)
    assert recording.point("gen_ai.client.inference.time_to_first_chunk").sum == pytest.approx(0.5)
    assert recording.point("gen_ai.client.inference.duration").sum == pytest.approx(200.735)


def test_gaps_of_many_calls_add_up(recording: Recording) -> None:
    for _ in range(10):
        call_once(recording)

    point = recording.point("gen_ai.client.inference.time_per_output_chunk")
    assert (point.count, sum(point.bucket_counts)) == (10, 10)


def test_a_provider_of_somebody_else_reads_the_mean_gap() -> None:
    gaps = Gaps.of([1, 1], 0.4, 0.1, 0.3)

    assert gaps == 0.2


def test_a_thousand_calls_of_random_models_leave_a_bounded_number_of_series(recording: Recording) -> None:
    for _ in range(1000):
        call_once(recording, model=f"model-{secrets.token_hex(4)}", answered=f"answer-{secrets.token_hex(4)}")
        recording.telemetry.instruments.rejected(f"reason-{secrets.token_hex(4)}")
        recording.telemetry.instruments.rail(f"flow-{secrets.token_hex(4)}", "input", "allow", 0.1)

    counts = {name: len(metric.data.data_points) for name, metric in recording.metrics().items()}
    assert max(counts.values()) <= 130
    labels = {point.attributes["gen_ai.request.model"] for point in points_with_model(recording)}
    assert labels == {"_OTHER"}


def points_with_model(recording: Recording) -> list[Any]:
    points = [point for metric in recording.metrics().values() for point in metric.data.data_points]
    return [point for point in points if "gen_ai.request.model" in point.attributes]
