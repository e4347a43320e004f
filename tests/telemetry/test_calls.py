"""One LLM call is one CLIENT span and one set of metrics, however it ends."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode
from railstream.errors import CallError
from railstream.telemetry import RecordedCall
from telemetry.recording import Count, Recording

FULL = Count(120, 45, cached_input_tokens=100, cache_write_input_tokens=8, reasoning_tokens=30)
SAMPLED_OUT = Context()


def start(recording: Recording, **given: Any) -> RecordedCall:
    options = {"model": "gpt-test", "provider": "openai", "call": "1.1", "address": "llm.local", "port": 8443}
    return recording.telemetry.calls.start(**(options | {"parent_context": Context()} | given))


def test_a_finished_call_is_one_span_with_the_names_of_the_convention(recording: Recording) -> None:
    params = {"max_tokens": 64, "temperature": 0, "top_p": 0.9, "stop": "END", "seed": 7}
    call = start(recording, params=params, conversation="thread-1", task="general")
    call.response("resp-1", "gpt-test-2026")
    call.chunks(3)
    call.tokens(FULL)
    call.finish(["stop"])

    span = recording.span
    assert span.name == "chat gpt-test"
    assert span.kind is SpanKind.CLIENT
    attributes = dict(span.attributes or {})
    assert attributes.pop("gen_ai.response.time_to_first_chunk") > 0
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-test",
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.stream": True,
        "gen_ai.response.id": "resp-1",
        "gen_ai.response.model": "gpt-test-2026",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 45,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.cache_write.input_tokens": 8,
        "gen_ai.usage.reasoning.output_tokens": 30,
        "gen_ai.conversation.id": "thread-1",
        "server.address": "llm.local",
        "server.port": 8443,
        "railstream.task": "general",
    }
    assert span.status.status_code is StatusCode.UNSET


def test_the_usage_payload_says_what_the_span_says(recording: Recording) -> None:
    call = start(recording, task="self_check_output")
    call.chunks(2)
    call.tokens(Count(5, 1))
    call.tokens(FULL)
    usage = call.finish(["stop"])

    assert (usage.call, usage.task, usage.model, usage.provider) == ("1.1", "self_check_output", "gpt-test", "openai")
    assert (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens) == (120, 45, 100)
    assert (usage.cache_write_input_tokens, usage.reasoning_tokens) == (8, 30)
    assert (usage.outcome, usage.complete, usage.chunks) == ("finished", True, 2)


def test_a_cancelled_call_reports_the_usage_known_so_far(recording: Recording) -> None:
    call = start(recording)
    call.chunk()
    call.tokens(Count(120, 4))
    usage = call.cancel()

    attributes = recording.span.attributes or {}
    assert attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert attributes["error.type"] == "cancelled"
    assert attributes["gen_ai.usage.output_tokens"] == 4
    assert recording.span.status.status_code is StatusCode.UNSET
    assert (usage.outcome, usage.complete, usage.output_tokens) == ("cancelled", False, 4)
    point = recording.point("gen_ai.client.inference.usage.output_tokens")
    assert point.value == 4
    assert recording.point("gen_ai.client.inference.duration").attributes["error.type"] == "cancelled"


@pytest.mark.parametrize(
    ("engine", "name"), [("google_genai", "gcp.gemini"), ("azure", "azure.ai.openai"), ("vllm", "vllm")]
)
def test_a_provider_has_the_conventions_name_where_there_is_one(recording: Recording, engine: str, name: str) -> None:
    usage = start(recording, provider=engine).finish(["stop"])
    assert recording.span.attributes is not None
    assert recording.span.attributes["gen_ai.provider.name"] == name
    assert usage.provider == engine, "the ledger keeps the configured one"


def test_a_provider_that_dies_in_mid_stream_is_an_error_with_its_code(recording: Recording) -> None:
    call = start(recording)
    call.chunk()
    usage = call.fail("truncated")

    attributes = recording.span.attributes or {}
    assert attributes["error.type"] == "truncated"
    assert attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert "gen_ai.usage.input_tokens" not in attributes
    assert recording.span.status.status_code is StatusCode.ERROR
    assert (usage.outcome, usage.input_tokens, usage.output_tokens, usage.complete) == ("failed", None, None, False)
    assert "gen_ai.client.inference.usage.input_tokens" not in recording.metrics()


def test_a_call_that_was_refused_has_no_finish_reasons(recording: Recording) -> None:
    start(recording).fail("authentication")

    assert "gen_ai.response.finish_reasons" not in (recording.span.attributes or {})


ENDINGS: list[Callable[[RecordedCall], object]] = [
    lambda call: call.finish(["stop"]),
    lambda call: call.fail("timeout"),
    lambda call: call.cancel(),
]


@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("second", range(3))
def test_a_call_ends_once_whatever_is_said_after(recording: Recording, first: int, second: int) -> None:
    call = start(recording)
    call.chunk()
    call.tokens(FULL)
    said = ENDINGS[first](call)

    assert ENDINGS[second](call) is said
    assert call.usage() is said
    assert len(recording.spans) == 1
    assert recording.point("gen_ai.client.inference.duration").count == 1
    assert recording.point("gen_ai.client.inference.usage.input_tokens").value == 120


def test_a_block_that_is_left_ends_its_call(recording: Recording) -> None:
    with start(recording) as finished:
        finished.finish(["stop"])
    with start(recording):
        pass
    with pytest.raises(CallError), start(recording):
        raise CallError("too many", code="rate_limited")
    with pytest.raises(GeneratorExit), start(recording):
        raise GeneratorExit

    errors = [(span.attributes or {}).get("error.type") for span in recording.spans]
    assert errors == [None, "cancelled", "rate_limited", "cancelled"]


def test_calls_that_are_open_when_the_process_stops_end_as_cancelled(recording: Recording) -> None:
    start(recording).tokens(FULL)
    recording.telemetry.calls.abandon()

    assert (recording.span.attributes or {})["error.type"] == "cancelled"
    assert (recording.span.attributes or {})["gen_ai.usage.input_tokens"] == 120


def test_ended_calls_are_not_kept(recording: Recording) -> None:
    for _ in range(10):
        start(recording).finish(["stop"])
    gc.collect()

    assert not [thing for thing in gc.get_objects() if type(thing) is RecordedCall]


@pytest.mark.parametrize("chunks", [0, 1, 2, 500])
def test_the_number_of_spans_does_not_depend_on_the_number_of_chunks(recording: Recording, chunks: int) -> None:
    call = start(recording)
    for _ in range(chunks):
        call.chunk()
    call.finish(["stop"])

    assert len(recording.spans) == 1
    assert not recording.span.events


def test_a_call_that_is_sampled_out_is_still_counted(record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    recording = record()
    call = start(recording)
    call.chunk()
    call.tokens(FULL)
    usage = call.finish(["stop"])

    assert recording.spans == ()
    assert usage.input_tokens == 120
    assert recording.point("gen_ai.client.inference.usage.input_tokens").value == 120


def test_options_of_a_wrong_type_are_left_out(recording: Recording) -> None:
    start(recording, params={"max_tokens": "64", "temperature": None, "stop": [1]}).finish(["stop"])

    assert not {"gen_ai.request.max_tokens", "gen_ai.request.stop_sequences"} & set(recording.span.attributes or {})


MARKER = "the-secret-of-the-prompt"


def ask_about_a_secret(recording: Recording) -> None:
    call = start(recording, messages=[{"role": "user", "content": MARKER}])
    call.chunk()
    call.text(f"It is {MARKER}.")
    call.finish(["stop"])


def test_no_content_is_recorded(recording: Recording) -> None:
    ask_about_a_secret(recording)

    assert not recording.telemetry.calls.captures_content
    assert MARKER not in recording.span.to_json()
    assert MARKER not in recording.telemetry.metrics_page().decode()


@pytest.mark.parametrize("asked", ["true", "SPAN_ONLY", "span_and_event"])
def test_content_is_recorded_where_the_convention_says_when_it_is_asked_for(record: Any, asked: str) -> None:
    recording = record(environ={"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": asked})
    ask_about_a_secret(recording)

    attributes = recording.span.attributes
    said = [{"type": "text", "content": f"It is {MARKER}."}]
    assert json.loads(attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": MARKER}]}
    ]
    assert json.loads(attributes["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": said, "finish_reason": "stop"}
    ]
    assert MARKER not in recording.telemetry.metrics_page().decode()
