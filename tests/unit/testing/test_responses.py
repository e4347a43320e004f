"""The upstream's Responses as the `openai` SDK asks for them: runs in the background that outlive their connections."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from railstream.testing import Script, Upstream, directive, text


async def begin(sdk: AsyncOpenAI, **script: Any) -> Any:
    given: dict[str, Any] = {"background": True, "store": True, "stream": True}
    return await sdk.responses.create(model="any", input=f"Please. {directive(**script)}", **given)


async def read(stream: Any, *, until: int | None = None) -> list[Any]:
    """The events, to the end or up to a sequence number; what had come before an error, if there was one."""
    events: list[Any] = []
    with suppress(openai.APIError, openai.APIConnectionError):
        async for event in stream:
            events.append(event)
            if event.sequence_number == until:
                break
    return events


def text_of(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


async def test_a_run_is_streamed_with_numbers_that_do_not_skip(upstream: Upstream, sdk: AsyncOpenAI) -> None:
    events = await read(await begin(sdk, words=12, seed=3, reasoning=2))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert text_of(events) == text.text(3, 12)
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert events[-1].response.output_text == text.text(3, 12)
    assert (events[-1].response.usage.output_tokens, upstream.ledger[0].tokens) == (14, 14)


async def test_a_run_goes_on_without_a_reader_and_is_read_again_from_any_event(
    upstream: Upstream, sdk: AsyncOpenAI
) -> None:
    async with await begin(sdk, words=30, seed=3, rate=200) as stream:
        first = await read(stream, until=9)
    (entry,) = await upstream.ledger.wait(ended=1)
    assert (entry.outcome, entry.tokens) == ("finished", 30)
    again = await sdk.responses.retrieve(first[0].response.id, stream=True, starting_after=9)
    assert text_of(first) + text_of(await read(again)) == text.text(3, 30)
    plain = await sdk.responses.retrieve(first[0].response.id)
    assert (plain.status, plain.output_text) == ("completed", text.text(3, 30))
    assert (len(upstream.ledger), entry.attached) == (1, 1)


async def test_a_cancel_ends_the_run_and_may_be_repeated(upstream: Upstream, sdk: AsyncOpenAI) -> None:
    async with await begin(sdk, words=500, rate=50) as stream:
        first = await read(stream, until=9)
    for _ in range(2):
        assert (await sdk.responses.cancel(first[0].response.id)).status == "cancelled"
    (entry,) = await upstream.ledger.wait(ended=1)
    assert entry.outcome == "cancelled"


async def test_a_run_that_is_too_old_cannot_be_streamed_again(upstream: Upstream, sdk: AsyncOpenAI) -> None:
    events = await read(await begin(sdk, words=3, attach_for=0))
    with pytest.raises(openai.BadRequestError, match="can no longer be streamed"):
        await sdk.responses.retrieve(events[0].response.id, stream=True)
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve("resp_unknown", stream=True)


@pytest.mark.parametrize("fault", ["reset", "early_end"])
async def test_a_fault_breaks_the_connection_and_the_run_goes_on(
    upstream: Upstream, sdk: AsyncOpenAI, fault: str
) -> None:
    first = await read(await begin(sdk, words=20, seed=3, rate=200, fault=fault, at=5))
    assert text_of(first) == text.text(3, 5)
    again = await sdk.responses.retrieve(first[0].response.id, stream=True, starting_after=first[-1].sequence_number)
    assert text_of(first) + text_of(await read(again)) == text.text(3, 20)
    assert [entry.outcome for entry in upstream.ledger] == ["finished"]


async def test_a_run_that_is_not_in_the_background_ends_with_its_connection(
    upstream: Upstream, sdk: AsyncOpenAI
) -> None:
    said = directive(words=500, rate=50)
    async with await sdk.responses.create(model="any", input=said, stream=True) as stream:
        await read(stream, until=6)
    (entry,) = await upstream.ledger.wait(ended=1)
    assert entry.outcome == "closed_by_client"


async def test_tools_a_cut_and_a_failure_are_told_as_the_api_tells_them(upstream: Upstream, sdk: AsyncOpenAI) -> None:
    called = (await read(await begin(sdk, tool_calls=[{"name": "f", "arguments": {"a": 1}, "id": "call_1"}])))[-1]
    assert [(item.call_id, item.name, item.arguments) for item in called.response.output] == [
        ("call_1", "f", '{"a":1}')
    ]
    upstream.script = Script(words=9)
    cut = await sdk.responses.create(model="any", input="Go.", max_output_tokens=4)
    assert (cut.status, cut.incomplete_details and cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    failed = (await read(await begin(sdk, words=9, fault="error_during", at=4)))[-1]
    assert (failed.type, failed.response.error.code) == ("response.failed", "server_error")
