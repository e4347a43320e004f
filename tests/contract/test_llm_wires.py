"""The testing upstream is true to each wire: the provider's own SDK reads it, and finds all that was told."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from railstream.testing import Script, Upstream, directive

anthropic = pytest.importorskip("anthropic", reason="the extra `anthropic` is not installed")

WEATHER = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


@pytest.fixture
async def sdk(upstream: Upstream) -> AsyncGenerator[Any, None]:
    url = upstream.url.removesuffix("/v1")
    async with anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0, timeout=5) as client:
        yield client


def asking(**script: Any) -> dict[str, Any]:
    return {"model": "claude", "max_tokens": 500, "messages": [{"role": "user", "content": directive(**script)}]}


async def test_anthropics_sdk_puts_a_message_together(sdk: Any) -> None:
    script = {"words": 6, "reasoning": 3, "prompt_tokens": 20, "cached_tokens": 8}
    tools = [{"name": "weather", "arguments": '{"city": "Zürich"}', "id": "toolu_1"}]
    async with sdk.messages.stream(**asking(**script, tool_calls=tools), tools=[WEATHER]) as stream:
        message = await stream.get_final_message()
    thinking, text, tool = message.content
    assert (thinking.type, len(thinking.thinking.split()), bool(thinking.signature)) == ("thinking", 3, True)
    assert text.text == "".join(Script(words=6).says())
    assert (tool.id, tool.name, tool.input) == ("toolu_1", "weather", {"city": "Zürich"})
    assert message.stop_reason == "tool_use"
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (12, 8, 13)
    assert usage.output_tokens_details.thinking_tokens == 3


async def test_anthropics_sdk_sees_the_events_of_its_wire_in_order(sdk: Any) -> None:
    stream = await sdk.messages.create(**asking(words=1), stream=True)
    assert [event.type async for event in stream if event.type != "ping"] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip


async def test_an_error_in_mid_stream_reaches_anthropics_sdk_with_status_200(sdk: Any) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        async with sdk.messages.stream(**asking(words=9, fault="error_during", at=2, status=529)) as stream:
            await stream.get_final_message()
    assert (caught.value.status_code, caught.value.type) == (200, "overloaded_error")


async def test_anthropics_sdk_takes_a_cut_stream_for_a_whole_one(sdk: Any) -> None:
    """Why our engine demands the end signal: if this fails, the SDK has learned it."""
    async with sdk.messages.stream(**asking(words=9, fault="early_end", at=2)) as stream:
        message = await stream.get_final_message()
    assert message.stop_reason is None


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, "AuthenticationError"), (429, "RateLimitError"), (529, "OverloadedError"), (500, "InternalServerError")],
)
async def test_anthropics_sdk_knows_the_refusals(sdk: Any, status: int, error: str) -> None:
    with pytest.raises(getattr(anthropic, error, None) or getattr(anthropic._exceptions, error)):
        await sdk.messages.create(**asking(fault="error_before", status=status), stream=True)


async def test_a_refusal_says_what_it_is_about(sdk: Any) -> None:
    async with sdk.messages.stream(**asking(words=2, finish_reason="content_filter")) as stream:
        message = await stream.get_final_message()
    assert (message.stop_reason, message.stop_details.category) == ("refusal", "cyber")


async def test_options_that_this_version_of_the_api_refuses_are_refused(sdk: Any) -> None:
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        await sdk.messages.create(**asking(words=1), stream=True, extra_body={"temperature": 0})
