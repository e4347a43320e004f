"""Graphs in this process: order, real context, failures that skip what waits, and readers that leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from railstream.errors import InvalidRequestError
from railstream.sessions import (
    Builder,
    FlowError,
    OperationChunk,
    OperationFinished,
    OperationSkipped,
    OperationStarted,
    Session,
    flow_events,
    flow_stream,
    iModel,
)
from railstream.testing import Script, Upstream, directive


@pytest.fixture
async def builder(upstream: Upstream) -> AsyncGenerator[Builder, None]:
    async with Session() as session:
        session.services.register(iModel("openai", "testing", base_url=upstream.url, api_key="x", max_retries=0))
        yield Builder(session)


async def test_tokens_of_operations_that_run_at_once_are_interleaved(builder: Builder, upstream: Upstream) -> None:
    upstream.script = Script(words=20, rate=200)
    for name in ("a", "b"):
        builder.communicate("go", "testing", id=name)
    came = [id async for id, chunk in flow_stream(builder.operations) if chunk.data]
    assert came.count("a") == came.count("b") == 20
    assert came != sorted(came)


async def test_the_answers_of_context_from_stand_in_the_prompt(builder: Builder, upstream: Upstream) -> None:
    upstream.script = Script(text="forty-two")
    first = builder.communicate("what?", "testing", id="first")
    builder.communicate("why?", "testing", context_from=[first])
    async for _ in flow_stream(builder.operations):
        pass
    assert upstream.ledger[-1].body["messages"] == [{"role": "user", "content": "[first]\nforty-two\n\nwhy?"}]


async def test_operations_of_one_branch_go_one_after_the_other(builder: Builder, upstream: Upstream) -> None:
    upstream.script = Script(words=5, rate=100)
    for name in ("one", "two", "three"):
        builder.communicate(name, "testing", "shared", id=name)
    started = []
    async with flow_events(builder.operations) as events:
        async for event in events:
            if isinstance(event, OperationStarted | OperationFinished):
                started.append((type(event).__name__, event.operation))
    assert [id for _, id in started] == ["one", "one", "two", "two", "three", "three"]
    roles = [message.role for message in builder.session.history("shared")]
    assert roles == ["user", "assistant"] * 3


@pytest.mark.parametrize(("on_failure", "alone"), [("continue", OperationFinished), ("stop", OperationSkipped)])
async def test_a_failed_operation_skips_what_waits_for_it(
    builder: Builder, upstream: Upstream, on_failure: str, alone: type
) -> None:
    upstream.script = Script(words=3)
    bad = builder.communicate(directive(fault="reset", at=1, words=9, rate=100), "testing", id="bad")
    after = builder.communicate("x", "testing", id="after", depends_on=[bad])
    builder.communicate("x", "testing", id="last", context_from=[after])
    builder.communicate("x", "testing", id="alone", depends_on=[builder.communicate("x", "testing", id="slow")])
    builder.operations.sort(key=lambda operation: operation.id == "slow")
    ends = {}
    async with flow_events(builder.operations, on_failure=on_failure, max_concurrent=1) as events:
        async for event in events:
            if not isinstance(event, OperationChunk | OperationStarted):
                ends[event.operation] = event
    failed, skipped = ends["bad"], ends["after"]
    assert isinstance(failed, OperationFinished)
    assert failed.error is not None
    assert isinstance(skipped, OperationSkipped)
    assert skipped.reason == "'bad', which it waits for, failed"
    assert isinstance(ends["last"], OperationSkipped)
    assert isinstance(ends["alone"], alone)


async def test_a_flow_tells_of_its_failures_at_the_end_and_runs_again(builder: Builder, upstream: Upstream) -> None:
    upstream.script = Script(words=2)
    builder.communicate("fine", "testing", id="fine")
    builder.communicate(directive(fault="error_before"), "testing", id="bad")
    for runs in (1, 2):
        with pytest.raises(FlowError, match="1 operations failed") as raised:
            async for _ in flow_stream(builder.operations):
                pass
        assert list(raised.value.errors) == ["bad"]
        assert len(upstream.ledger) == 2 * runs


async def test_breaking_out_ends_every_operation_and_leaves_the_caller_alive(
    builder: Builder, upstream: Upstream
) -> None:
    upstream.script = Script(words=500, rate=100)
    for name in ("a", "b", "c"):
        builder.communicate("go", "testing", id=name)
    async for _ in flow_stream(builder.operations):
        await upstream.ledger.wait(open=3, timeout=5)
        break
    await upstream.ledger.wait(ended=3, timeout=5)
    assert {entry.outcome for entry in upstream.ledger} == {"closed_by_client"}
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_graph_that_cannot_run_is_refused_before_anything_is_asked(
    builder: Builder, upstream: Upstream
) -> None:
    builder.communicate("x", "testing", id="a", depends_on=["b"])
    with pytest.raises(InvalidRequestError, match="waits for 'b'"):
        flow_events(builder.operations)
    builder.communicate("x", "testing", id="b", context_from=["a"])
    with pytest.raises(InvalidRequestError, match="in a circle"):
        flow_events(builder.operations)
    assert len(upstream.ledger) == 0
