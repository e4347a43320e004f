"""What fails before the first token fails for an SDK as if it had asked the provider itself: class, code, tries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from harness.stack import MODEL, Stack, model
from openai import AsyncOpenAI
from railstream.testing import Script

# A provider is asked once by a worker, so that what is counted are the tries of the SDK.
ONCE = {"main": {"models": [model("", parameters={"max_retries": 0})]}}
REFUSALS: list[tuple[int, dict[str, Any]]] = [
    (400, {"message": "no", "type": "invalid_request_error", "param": "x", "code": "unsupported_value"}),
    (400, {"message": "long", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}),
    (400, {"message": "no", "type": "invalid_request_error", "param": "prompt", "code": "content_filter"}),
    (404, {"message": "no", "type": "invalid_request_error", "param": None, "code": "model_not_found"}),
    (413, {"message": "no", "type": "invalid_request_error", "param": None, "code": "string_above_max_length"}),
    (422, {"message": "no", "type": "invalid_request_error", "param": None, "code": "invalid_type"}),
    (429, {"message": "no", "type": "requests", "param": None, "code": "rate_limit_exceeded"}),
]


@pytest.fixture
async def once(start_stack: Any) -> Stack:
    stack: Stack = await start_stack(configs=ONCE)
    return stack


@asynccontextmanager
async def both(stack: Stack, **options: Any) -> AsyncGenerator[tuple[AsyncOpenAI, AsyncOpenAI], None]:
    """Two clients: one of the testing upstream, one of the gateway."""
    direct = AsyncOpenAI(base_url=stack.upstream.url, api_key="testing", timeout=30, **options)
    async with direct, stack.client(**options) as through:
        yield direct, through


async def whole(client: AsyncOpenAI, *, stream: bool) -> None:
    """Ask, and read to the end."""
    request: Any = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    answer = await client.chat.completions.create(**request)
    if stream:
        async for _ in answer:
            pass


async def outcome(client: AsyncOpenAI, stack: Stack, *, stream: bool) -> dict[str, Any]:
    """What an application sees of a failing request, and how often the provider was asked."""
    before = len(stack.upstream.ledger)
    with pytest.raises(openai.APIError) as caught:
        await whole(client, stream=stream)
    error = caught.value
    seen = {name: getattr(error, name, None) for name in ("status_code", "code", "type", "param")}
    return {"class": type(error).__name__, "calls": len(stack.upstream.ledger) - before} | seen


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_a_refusal_before_the_first_token_is_the_providers_own(once: Stack, stream: bool) -> None:
    async with both(once, max_retries=2) as (direct, through):
        for status, error in REFUSALS:
            once.upstream.script = Script(fault="error_before", status=status, error=error, retry_after=0.001)
            assert await outcome(through, once, stream=stream) == await outcome(direct, once, stream=stream), error


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_a_providers_overload_is_tried_again_by_the_sdk(once: Stack, stream: bool) -> None:
    once.upstream.script = Script(fault="error_before", status=503)
    async with both(once, max_retries=2) as (direct, through):
        seen = await outcome(through, once, stream=stream)
        assert (seen["class"], seen["status_code"], seen["calls"]) == ("InternalServerError", 503, 3)
        assert (await outcome(direct, once, stream=stream))["calls"] == 3


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_what_repeating_cannot_mend_is_asked_once(once: Stack, stream: bool) -> None:
    useless = [(401, "invalid_api_key", 502), (403, "permission_denied", 502), (429, "insufficient_quota", 429)]
    async with both(once, max_retries=2) as (_, through):
        for status, code, told in useless:
            once.upstream.script = Script(fault="error_before", status=status, error={"message": "no", "code": code})
            seen = await outcome(through, once, stream=stream)
            assert (seen["status_code"], seen["calls"]) == (told, 1), code


async def test_retry_after_and_the_providers_request_id_are_headers_of_a_streams_error(once: Stack) -> None:
    once.upstream.script = Script(fault="error_before", status=429, retry_after=7)
    async with once.ask() as stream:
        assert (stream.status, stream.headers["retry-after"]) == (429, "7")
        assert "x-should-retry" not in stream.headers
        assert stream.headers["x-upstream-request-id"] == once.upstream.ledger[-1].id
    once.upstream.script = Script(fault="error_before", status=401, error={"message": "no", "code": "invalid_api_key"})
    async with once.ask() as stream:
        assert (stream.status, stream.headers["x-should-retry"]) == (502, "false")
        assert b'"provider_code":"invalid_api_key"' in await stream.body()


async def test_an_error_after_a_token_stands_in_the_stream_with_its_status(once: Stack) -> None:
    once.upstream.script = Script(words=4, fault="error_during", at=2, error={"message": "slow", "code": 429})
    async with once.ask() as stream:
        frames = await stream.read()
    assert stream.status == 200
    assert frames[-1].done
    error = frames[-2].json["error"]
    assert (error["code"], error["status"]) == ("rate_limit_exceeded", 429)


async def test_an_error_after_a_keep_alive_stands_in_the_stream(start_stack: Any) -> None:
    stack: Stack = await start_stack(configs=ONCE, environment={"RAILSTREAM_KEEP_ALIVE": "0.05"})
    stack.upstream.script = Script(fault="slow_headers", seconds=0.5, words=1, finish_reason="error")
    async with stack.ask() as stream:
        frames = await stream.read()
    assert stream.status == 200
    assert stream.comments > 0
    assert frames[-2].json["error"]["code"] == "provider"


async def test_cancelling_a_plain_request_ends_it_after_one_call(once: Stack) -> None:
    once.upstream.script = Script(words=9, hold=2)
    async with once.client(max_retries=2) as client:
        create = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
        waiting = asyncio.create_task(create)
        (call,) = await once.upstream.ledger.wait(calls=1)
        status, _ = await once.cancel(call.request)
        assert status == 200
        with pytest.raises(openai.APIStatusError) as caught:
            await waiting
    assert (caught.value.status_code, caught.value.code) == (499, "request_cancelled")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(once.upstream.ledger) == 1
