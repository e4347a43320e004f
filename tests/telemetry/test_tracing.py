"""One trace from the client through the queue, whose spans live in two processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from railstream.telemetry import names
from telemetry.recording import Recording

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
ROUTE = "/v1/chat/completions"
Record = Callable[..., Recording]


def trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def span_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.span_id:016x}"


def parent_id(span: ReadableSpan) -> str:
    return f"{span.parent.span_id:016x}" if span.parent else ""


def entry(flow: str, target: str, decided: str, *, stop: bool = False, streamed: bool = False) -> dict[str, Any]:
    """What a rail leaves in its turn's log."""
    times = {"started_at": 1000.0, "finished_at": 1000.25, "duration": 0.25}
    action = {"action_name": flow, "action_params": {}, "return_value": decided, "llm_calls": [], **times}
    mark = {"streamed": True} if streamed else {}
    return {"type": target, "name": flow, "executed_actions": [action], "stop": stop, **times, **mark}


def send(gateway: Recording, headers: dict[str, str]) -> dict[str, str]:
    """A request that queues a job; returns the job's headers."""
    tracing = gateway.telemetry.tracing
    request = tracing.request("POST", ROUTE, headers)
    job_headers: dict[str, str] = {}
    sent = tracing.send(request.context, job_headers, "chatcmpl-1")
    sent.set(names.MESSAGE_ID, "17-0")
    sent.end()
    request.respond(200)
    request.end()
    return job_headers


def test_a_trace_goes_from_the_clients_header_to_the_provider_call(record: Record) -> None:
    gateway, worker = record("railstream-gateway"), record("railstream-worker")
    headers = send(gateway, {"traceparent": TRACEPARENT, "tracestate": "vendor=1"})
    tracing = worker.telemetry.tracing
    attempt = tracing.process(headers, "chatcmpl-1", attempt=1, message_id="17-0")
    worker.telemetry.rails.record([entry("self check input", "input", "allow")], attempt.context)
    answer = worker.telemetry.calls.start(model="gpt-test", provider="openai", parent_context=attempt.context)
    answer.finish(["stop"])
    attempt.end()

    sent, request = gateway.spans
    checked, answered, processed = worker.spans
    assert {trace_id(span) for span in (*gateway.spans, *worker.spans)} == {TRACE}
    assert [parent_id(span) for span in (request, sent, processed, checked, answered)] == [
        CALLER, span_id(request), span_id(sent), span_id(processed), span_id(processed),
    ]  # fmt: skip
    assert [span.name for span in (request, sent, processed, checked)] == [
        "POST /v1/chat/completions", "send railstream:jobs", "process railstream:jobs", "guardrail self check input",
    ]  # fmt: skip
    assert [span.kind for span in (request, sent, processed, checked)] == [
        SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.INTERNAL,
    ]  # fmt: skip
    (link,) = processed.links
    assert f"{link.context.span_id:016x}" == span_id(sent)
    assert headers["tracestate"] == "vendor=1"


def test_a_rail_is_a_span_with_its_own_times_and_its_verdict(recording: Recording) -> None:
    attempt = recording.telemetry.tracing.process({}, "chatcmpl-1", attempt=1)
    entries = [
        entry("self check output", "output", "block", stop=True),
        entry("mask card numbers", "output", "rewrite"),
        entry("broken", "output", "failed", stop=True),
        entry("regex", "output", "allow", streamed=True),
    ]
    recording.telemetry.rails.record(entries, attempt.context)
    attempt.end()

    *spans, processed = recording.spans
    assert [span.name for span in spans] == [f"guardrail {one['name']}" for one in entries]
    assert {parent_id(span) for span in spans} == {span_id(processed)}
    assert {(span.start_time, span.end_time) for span in spans} == {(1000 * 10**9, 1000 * 10**9 + 250_000_000)}
    assert dict(spans[0].attributes or {}) == {
        "railstream.rail.flow": "self check output",
        "railstream.rail.target": "output",
        "railstream.rail.verdict": "block",
        "railstream.rail.action": "stop",
    }
    assert [(span.attributes or {})["railstream.rail.verdict"] for span in spans] == [
        "block", "rewrite", "error", "allow",
    ]  # fmt: skip
    assert [span.status.status_code is StatusCode.ERROR for span in spans] == [False, False, True, False]
    assert len(recording.metrics()["railstream.rail.verdicts"].data.data_points) == 4
    timed = recording.metrics()["railstream.rail.duration"].data.data_points
    assert [point.attributes["railstream.rail.flow"] for point in timed] == [
        "self check output", "mask card numbers", "broken",
    ]  # fmt: skip


def test_messaging_spans_have_the_names_of_the_convention(record: Record) -> None:
    gateway, worker = record(), record()
    headers = send(gateway, {})
    worker.telemetry.tracing.process(headers, "chatcmpl-1", attempt=2, message_id="17-0").end()

    assert dict(gateway.spans[0].attributes or {}) == {
        "messaging.system": "redis",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "railstream:jobs",
        "messaging.message.id": "17-0",
        "railstream.request.id": "chatcmpl-1",
    }
    assert dict(worker.span.attributes or {}) == {
        "messaging.system": "redis",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "railstream:jobs",
        "messaging.consumer.group.name": "workers",
        "messaging.message.id": "17-0",
        "railstream.attempt": 2,
        "railstream.request.id": "chatcmpl-1",
    }


def test_a_redelivered_job_has_a_span_per_attempt_in_the_same_trace(record: Record) -> None:
    gateway, first, second = record(), record(), record()
    headers = send(gateway, {})
    first.telemetry.tracing.process(headers, "chatcmpl-1", attempt=1).end("worker_lost")
    second.telemetry.tracing.process(headers, "chatcmpl-1", attempt=2).end()

    spans = [first.span, second.span]
    assert {trace_id(span) for span in spans} == {trace_id(gateway.spans[0])}
    assert {f"{span.links[0].context.span_id:016x}" for span in spans} == {span_id(gateway.spans[0])}
    assert [(span.attributes or {})["railstream.attempt"] for span in spans] == [1, 2]
    assert first.span.status.status_code is StatusCode.ERROR


def test_a_cancelled_attempt_says_so_without_being_an_error(recording: Recording) -> None:
    recording.telemetry.tracing.process({}, "chatcmpl-1", attempt=1).end(names.CANCELLED)

    assert (recording.span.attributes or {})["error.type"] == "cancelled"
    assert recording.span.status.status_code is StatusCode.UNSET


def test_a_resumed_stream_is_another_trace_linked_to_the_first(record: Record) -> None:
    gateway, other = record(), record()
    creation = send(gateway, {})["traceparent"]
    request = other.telemetry.tracing.request("GET", "", {})
    other.telemetry.tracing.resume(request, creation)
    request.route("GET", ROUTE + "/{id}")
    request.end()

    span, sent = other.span, gateway.spans[0]
    assert (span.name, span.kind) == ("resume", SpanKind.SERVER)
    assert trace_id(span) != trace_id(sent)
    assert f"{span.links[0].context.trace_id:032x}" == trace_id(sent)
    assert (span.attributes or {})["http.route"] == "/v1/chat/completions/{id}"


def test_a_resume_without_a_creation_context_has_no_link(recording: Recording) -> None:
    request = recording.telemetry.tracing.request("GET", ROUTE, {})
    recording.telemetry.tracing.resume(request, "")
    request.end()

    assert not recording.span.links
    assert recording.span.name == "resume"


def test_a_request_whose_route_is_known_late_is_named_then(recording: Recording) -> None:
    request = recording.telemetry.tracing.request("GET", "", {})
    request.route("GET", ROUTE + "/{id}")
    request.end()
    recording.telemetry.tracing.request("GET", "", {}).end()

    assert [span.name for span in recording.spans] == ["GET /v1/chat/completions/{id}", "GET"]


def test_an_edge_that_trusts_nobody_restarts_the_trace_and_links_to_the_callers(record: Record) -> None:
    gateway = record(trusts_traceparent=False, baggage=("tier",))
    headers = send(gateway, {"traceparent": TRACEPARENT, "baggage": "tier=gold"})

    request = gateway.spans[1]
    assert trace_id(request) != TRACE
    assert request.parent is None
    assert f"{request.links[0].context.trace_id:032x}" == TRACE
    assert "baggage" not in headers


def test_only_listed_baggage_travels_with_a_job(record: Record) -> None:
    headers = send(record(baggage=("tier",)), {"traceparent": TRACEPARENT, "baggage": "tier=gold,email=a@b.c"})
    silent = send(record(), {"traceparent": TRACEPARENT, "baggage": "tier=gold"})

    assert headers["baggage"] == "tier=gold"
    assert "baggage" not in silent


def test_a_broken_traceparent_starts_a_new_trace(recording: Recording) -> None:
    request = recording.telemetry.tracing.request("POST", ROUTE, {"traceparent": "00-zz-11-01"})
    request.end()

    assert recording.span.parent is None
    assert len(request.trace_id) == 32


def test_the_answer_names_its_trace(recording: Recording) -> None:
    request = recording.telemetry.tracing.request("POST", ROUTE, {"traceparent": TRACEPARENT})
    request.end()

    assert request.trace_id == TRACE
    assert request.traceparent == f"00-{TRACE}-{span_id(recording.span)}-01"


def test_a_server_error_marks_its_span(recording: Recording) -> None:
    request = recording.telemetry.tracing.request("POST", ROUTE, {})
    request.respond(503)
    request.end()
    request.end("too late")

    assert (recording.span.attributes or {})["error.type"] == "503"
    assert (recording.span.attributes or {})["http.response.status_code"] == 503
    assert recording.span.status.status_code is StatusCode.ERROR


def test_how_it_went_may_be_said_before_the_end_and_nothing_after_it(
    recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    request = recording.telemetry.tracing.request("POST", "", {})
    request.respond(200)
    request.fail(names.CANCELLED)
    request.end()
    request.route("POST", ROUTE)
    request.end("late")

    assert (recording.span.attributes or {})["error.type"] == "cancelled"
    assert (recording.span.name, recording.span.status.status_code) == ("POST", StatusCode.UNSET)
    assert not caplog.records


def test_a_trace_that_is_not_sampled_still_travels(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_on")
    gateway, worker = record(), record()
    headers = send(gateway, {"traceparent": f"00-{TRACE}-{CALLER}-00"})
    attempt = worker.telemetry.tracing.process(headers, "chatcmpl-1", attempt=1)
    attempt.end()

    assert gateway.spans == worker.spans == ()
    assert headers["traceparent"].startswith(f"00-{TRACE}-")
    assert attempt.trace_id == TRACE
