"""The gateway's part of a trace, and its metrics page."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from contract.gateway_rig import QUESTION, Rig, Served
from harness.waiting import until
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from railstream.telemetry import setup

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traced:
    def __init__(self, served: Served, spans: InMemorySpanExporter) -> None:
        self.served = served
        self._spans = spans

    async def ended(self, name: str) -> ReadableSpan:
        def found() -> ReadableSpan | None:
            return next((span for span in self._spans.get_finished_spans() if span.name == name), None)

        span: ReadableSpan = await until(found, what=f"a span {name!r} has ended")
        return span

    def count(self) -> int:
        return len(self._spans.get_finished_spans())


@pytest.fixture
async def traced(rig: Rig) -> Traced:
    spans = InMemorySpanExporter()
    telemetry = setup("gateway", environ={}, span_processors=[SimpleSpanProcessor(spans)])
    return Traced(await rig.serve(telemetry=telemetry), spans)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_request_is_a_server_span_with_a_producer_below_it(rig: Rig, traced: Traced) -> None:
    async with traced.served.ask(headers={"traceparent": CALLER}) as stream:
        writer = await (await rig.next_job()).start()
        await writer.say(*"abcdefgh")
        await writer.finish()
        await stream.read()
    server, producer = await traced.ended("POST /v1/chat/completions"), await traced.ended("send railstream:jobs")
    assert traced.count() == 2  # eight chunks, no span of theirs
    assert (server.kind, producer.kind) == (SpanKind.SERVER, SpanKind.PRODUCER)
    assert server.parent is not None
    assert format(server.context.trace_id, "032x") == CALLER.split("-")[1]
    assert producer.parent is not None
    assert producer.parent.span_id == server.context.span_id
    assert attributes(server)["http.route"] == "/v1/chat/completions"
    assert attributes(server)["http.response.status_code"] == 200
    assert attributes(producer)["messaging.message.id"] == writer.entry.decode()
    assert writer.headers["traceparent"] == writer.job.traceparent
    assert writer.headers["traceparent"].split("-")[2] == format(producer.context.span_id, "016x")
    assert stream.headers["traceresponse"].split("-")[2] == format(server.context.span_id, "016x")


async def test_a_resume_is_another_trace_with_a_link_to_the_first(rig: Rig, traced: Traced) -> None:
    async with traced.served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.finish()
        await stream.read()
    async with traced.served.resume(writer.id) as stream:
        await stream.read()
    resume, producer = await traced.ended("resume"), await traced.ended("send railstream:jobs")
    assert [link.context.span_id for link in resume.links] == [producer.context.span_id]
    assert resume.context.trace_id != producer.context.trace_id
    assert attributes(resume)["http.route"] == "/v1/chat/completions/{id}"


async def test_a_client_that_leaves_ends_its_span_as_cancelled(rig: Rig, traced: Traced) -> None:
    async with traced.served.ask() as stream:
        await rig.next_job()
        stream.reset()
    assert attributes(await traced.ended("POST /v1/chat/completions"))["error.type"] == "cancelled"


async def test_the_metrics_page_counts_what_happened(rig: Rig) -> None:
    served = await rig.serve()
    await rig.http.post(served.completions, json={"messages": []})
    posted = asyncio.create_task(rig.http.post(served.completions, json=QUESTION))
    writer = await (await rig.next_job()).start()
    async with served.resume(writer.id) as stream:
        await writer.finish()
        await stream.read()
    await posted
    await until(lambda: not len(served.gateway.open_streams))
    page = await rig.http.get(f"{served.url}/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = dict(line.rsplit(" ", 1) for line in page.text.splitlines() if not line.startswith("#"))
    assert lines["railstream_requests_admitted_total"] == "1"
    assert lines['railstream_requests_rejected_total{railstream_reason="invalid_request"}'] == "1"
    assert lines["railstream_stream_resumes_total"] == "1"
    assert lines["railstream_streams_active"] == "0"
    assert lines["railstream_stream_time_to_first_event_seconds_count"] == "1"
    assert writer.id not in page.text
