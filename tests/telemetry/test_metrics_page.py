"""The metrics page: Prometheus text from the same instruments."""

from __future__ import annotations

import re
from typing import Any

import pytest
from railstream.telemetry import CONTENT_TYPE
from railstream.telemetry.prometheus import metric_name
from telemetry.recording import Recording

SAMPLE = re.compile(r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_]\w*="(\\.|[^"\\\n])*",?)*\})? -?[0-9.e+-]+$')


def page(recording: Recording) -> str:
    return recording.telemetry.metrics_page().decode()


def test_every_line_is_a_comment_or_a_sample(recording: Recording) -> None:
    instruments = recording.telemetry.instruments
    instruments.rail('a "quoted" \\ flow\nwith a line', "input", "allow", 0.4)
    instruments.stream_opened()
    instruments.queue_wait(1e-7)

    lines = page(recording).splitlines()
    assert [line for line in lines if not line.startswith(("# HELP ", "# TYPE ")) and not SAMPLE.match(line)] == []
    assert 'railstream_rail_flow="a \\"quoted\\" \\\\ flow\\nwith a line"' in page(recording)
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_a_histogram_counts_up_to_infinity(recording: Recording) -> None:
    for seconds in (0.02, 0.5, 500):
        recording.telemetry.instruments.queue_wait(seconds)

    text = page(recording)
    assert "# TYPE railstream_queue_wait_seconds histogram" in text
    assert 'railstream_queue_wait_seconds_bucket{le="0.01"} 0' in text
    assert 'railstream_queue_wait_seconds_bucket{le="0.02"} 1' in text
    assert 'railstream_queue_wait_seconds_bucket{le="81.92"} 2' in text
    assert 'railstream_queue_wait_seconds_bucket{le="+Inf"} 3' in text
    assert "railstream_queue_wait_seconds_sum 500.52" in text
    assert "railstream_queue_wait_seconds_count 3" in text


def test_counters_end_in_total_and_gauges_do_not(recording: Recording) -> None:
    recording.telemetry.instruments.cancelled("request")
    recording.telemetry.instruments.stream_opened()

    text = page(recording)
    assert '# TYPE railstream_cancels_total counter\nrailstream_cancels_total{railstream_reason="request"} 1' in text
    assert "# TYPE railstream_streams_active gauge\nrailstream_streams_active 1" in text


def test_the_page_is_cumulative(recording: Recording) -> None:
    for expected in (1, 2, 3):
        recording.telemetry.instruments.admitted()
        assert f"railstream_requests_admitted_total {expected}" in page(recording)


def test_the_page_says_who_speaks(record: Any) -> None:
    text = page(record("railstream-gateway", instance="gateway-7"))

    assert 'service_instance_id="gateway-7"' in text
    assert 'service_name="railstream-gateway"' in text


@pytest.mark.parametrize(
    ("name", "unit", "counter", "expected"),
    [
        ("gen_ai.client.token.usage", "{token}", False, "gen_ai_client_token_usage"),
        ("gen_ai.client.inference.duration", "s", False, "gen_ai_client_inference_duration_seconds"),
        (
            "gen_ai.client.inference.usage.cache_read.input_tokens",
            "{token}",
            True,
            "gen_ai_client_inference_usage_cache_read_input_tokens_total",
        ),
        ("railstream.queue.depth", "{job}", False, "railstream_queue_depth"),
    ],
)
def test_names_follow_the_mapping(name: str, unit: str, counter: bool, expected: str) -> None:
    assert metric_name(name, unit, counter=counter) == expected
