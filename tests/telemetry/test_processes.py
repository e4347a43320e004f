"""One trace across real processes, read from the protobuf that they export."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
from harness.stack import Stack
from harness.waiting import until
from railstream.testing import Judge, Script, directive
from telemetry.otlp import Exported, Receiver

StartStack = Callable[..., Awaitable[Stack]]
MARKER = "marker-of-a-private-prompt"
SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5
REQUEST, SEND, PROCESS, CALL = (
    "POST /v1/chat/completions",
    "send railstream:jobs",
    "process railstream:jobs",
    "chat testing",
)
JUDGED = {
    "models": [
        {"type": "main", "engine": "openai", "model": "testing"},
        {"type": "self_check_input", "engine": "openai", "model": "judge"},
    ],
    "rails": {"input": {"flows": ["self check input"]}},
    "prompts": [{"task": "self_check_input", "content": "Block this? {{ user_input }}"}],
}


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver, None]:
    async with Receiver() as receiving:
        yield receiving


def new_trace() -> tuple[str, dict[str, str]]:
    trace_id = secrets.token_hex(16)
    return trace_id, {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}


async def ask(stack: Stack, content: str, headers: dict[str, str]) -> Any:
    async with stack.ask(content, headers=headers) as stream:
        await stream.read()
        return stream


async def test_one_trace_goes_from_the_client_to_the_provider(start_stack: StartStack, receiver: Receiver) -> None:
    stack = await start_stack(environment=receiver.environment)
    trace_id, headers = new_trace()
    await ask(stack, directive(words=30), headers)

    trace = await receiver.wait_for(trace_id, REQUEST, SEND, PROCESS, CALL)
    request, sent, processed, call = (only(trace[name]) for name in (REQUEST, SEND, PROCESS, CALL))
    assert request.parent_id == headers["traceparent"].split("-")[2]
    assert [sent.parent_id, processed.parent_id, call.parent_id] == [
        request.span_id, sent.span_id, processed.span_id,
    ]  # fmt: skip
    assert [request.kind, sent.kind, processed.kind, call.kind] == [SERVER, PRODUCER, CONSUMER, CLIENT]
    assert processed.links == ((trace_id, sent.span_id),)
    assert {request.service, sent.service} == {"railstream-gateway"}
    assert {processed.service, call.service} == {"railstream-worker"}
    assert call.attributes["gen_ai.usage.output_tokens"] == 30


def only(spans: list[Exported]) -> Exported:
    (span,) = spans
    return span


async def test_the_number_of_spans_does_not_depend_on_the_number_of_chunks(
    start_stack: StartStack, receiver: Receiver
) -> None:
    stack = await start_stack(environment=receiver.environment)
    counts = []
    for words in (1, 300):
        trace_id, headers = new_trace()
        await ask(stack, directive(words=words), headers)
        trace = await receiver.wait_for(trace_id, REQUEST, SEND, PROCESS, CALL)
        counts.append({name: len(spans) for name, spans in trace.items()})

    assert counts[0] == counts[1] == {REQUEST: 1, SEND: 1, PROCESS: 1, CALL: 1}


async def test_a_judges_call_is_recorded_and_labelled_like_any_other(
    start_stack: StartStack, receiver: Receiver
) -> None:
    stack = await start_stack(
        environment=receiver.environment,
        configs={"main": JUDGED},
        models={"judge": Script(judge=Judge(marker="forbidden"))},
    )
    trace_id, headers = new_trace()
    await ask(stack, "Say something.", headers)

    trace = await receiver.wait_for(trace_id, PROCESS, CALL, "chat judge")
    judge = only(trace["chat judge"])
    check = only((await receiver.wait_for(trace_id, "guardrail self check input"))["guardrail self check input"])
    assert judge.attributes["railstream.task"] == "self_check_input"
    assert check.attributes["railstream.rail.verdict"] == "allow"
    page = await worker_page(stack)
    assert 'gen_ai_request_model="judge"' in page
    assert 'gen_ai_request_model="_OTHER"' not in page
    assert 'railstream_rail_verdict="allow"' in page


async def worker_page(stack: Stack) -> str:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{stack.workers[0].url}/metrics")).text


async def test_nothing_of_a_prompt_or_an_answer_leaves_in_telemetry_or_logs(
    start_stack: StartStack, receiver: Receiver
) -> None:
    stack = await start_stack(environment=receiver.environment | {"RAILSTREAM_LOG_LEVEL": "debug"})
    trace_id, headers = new_trace()
    await ask(stack, MARKER + directive(text=f"I heard {MARKER}."), headers)
    await receiver.wait_for(trace_id, REQUEST, CALL)
    await until(lambda: "gen_ai.client.inference.duration" in receiver.metrics, what="metrics of the call")

    assert MARKER.encode() not in receiver.received
    assert MARKER not in "".join(process.output() for process in stack.processes)
    assert MARKER not in await worker_page(stack)


async def test_content_is_on_the_calls_span_when_it_is_asked_for(start_stack: StartStack, receiver: Receiver) -> None:
    captured = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"}
    stack = await start_stack(environment=receiver.environment | captured)
    trace_id, headers = new_trace()
    await ask(stack, MARKER + directive(text=f"I heard {MARKER}."), headers)

    trace = await receiver.wait_for(trace_id, CALL)
    assert MARKER in only(trace[CALL]).attributes["gen_ai.input.messages"]
    assert f"I heard {MARKER}." in only(trace[CALL]).attributes["gen_ai.output.messages"]


async def test_a_resumed_stream_is_linked_to_the_trace_that_made_it(
    start_stack: StartStack, receiver: Receiver
) -> None:
    stack = await start_stack(environment=receiver.environment)
    trace_id, headers = new_trace()
    first = await ask(stack, directive(words=5), headers)
    async with stack.resume(first.request_id) as again:
        await again.read()
    await receiver.wait_for(trace_id, SEND)
    await until(lambda: any(span.name == "resume" for span in receiver.spans), what="the resume span")

    resume = only([span for span in receiver.spans if span.name == "resume"])
    sent = only(receiver.trace(trace_id)[SEND])
    assert resume.trace_id != trace_id
    assert resume.links == ((trace_id, sent.span_id),)
