"""Fallbacks and limits as a client meets them: worker processes, a gateway, the stand-in's answer in one stream."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from harness.stack import Stack
from railstream import keys
from railstream.ids import partition_of
from railstream.testing import Script, ToolCall
from railstream.testing.content import SIGNATURE
from redis.asyncio import Redis

StartStack = Callable[..., Awaitable[Stack]]


def config(**main: Any) -> dict[str, Any]:
    models = [
        {"type": "main", "engine": "openai", "model": "testing", "railstream": {"max_retries": 0, **main}},
        {"type": "spare", "engine": "openai", "model": "spare", "railstream": {"max_retries": 0}},
    ]
    return {"main": {"models": models}}


async def usages(redis: Redis, request_id: str) -> list[dict[str, Any]]:
    entries: list[Any] = await redis.xrange(f"railstream:{{{partition_of(request_id)}}}:events:{request_id}")
    return [json.loads(fields[b"data"]) for _, fields in entries if fields[b"event"] == b"usage"]


async def test_a_stand_in_answers_in_one_stream_and_both_calls_are_on_record(
    start_stack: StartStack, redis: Redis
) -> None:
    stack = await start_stack(configs=config(fallbacks=["spare"]))
    stack.upstream.models |= {
        "testing": Script(fault="error_before", status=503),
        "spare": Script(words=6, seed=5),
    }
    async with stack.client() as client:
        stream = await client.chat.completions.create(
            model="testing", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "".join(Script(words=6, seed=5).says())
    assert chunks[-1].choices[0].finish_reason == "stop"
    calls = await usages(redis, chunks[0].id)
    assert [(call["call"], call["model"], call.get("outcome", "finished")) for call in calls] == [
        ("1.1", "testing", "failed"), ("1.2", "spare", "finished"),
    ]  # fmt: skip


async def test_requests_per_minute_hold_over_three_workers(start_stack: StartStack, redis: Redis) -> None:
    limited = config(requests_per_minute=5, queue_timeout=1)
    stack = await start_stack(workers=3, configs=limited, script=Script(words=2))
    answered, refused = 0, list[openai.RateLimitError]()
    async with stack.client() as client:
        for _ in range(9):
            try:
                await client.chat.completions.create(model="testing", messages=[{"role": "user", "content": "Hi"}])
                answered += 1
            except openai.RateLimitError as error:
                refused.append(error)
    assert (answered, len(refused)) == (5, 4)
    assert len(stack.upstream.ledger) == 5
    assert all(30 < int(error.response.headers["retry-after"]) <= 61 for error in refused)
    assert len(await redis.keys(keys.limit("*"))) == 1


@pytest.mark.parametrize("engine", ["anthropic", "google_genai"])
async def test_another_wires_answer_reaches_an_openai_client_under_rails_with_its_usage(
    start_stack: StartStack, engine: str
) -> None:
    if engine == "anthropic":
        pytest.importorskip("anthropic", reason="the extra `anthropic` is not installed")
    rails = {
        "output": {"flows": ["regex check output"], "streaming": {"enabled": True}},
        "config": {"regex_detection": {"output": {"patterns": ["never said"]}}},
    }
    models = [{"type": "main", "engine": engine, "model": "testing"}]
    tool = {"name": "weather", "arguments": '{"city": "Zürich"}', "id": "toolu_1"}
    script = Script(words=8, reasoning=2, tool_calls=(ToolCall(**tool),), prompt_tokens=20, cached_tokens=5)
    stack = await start_stack(configs={"main": {"models": models, "rails": rails}}, script=script)
    async with stack.client() as client:
        stream = await client.chat.completions.create(
            model="testing",
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    assert "".join(delta.content or "" for delta in deltas) == "".join(Script(words=8).says())
    called = [call for delta in deltas for call in delta.tool_calls or ()]
    assert (called[0].id, called[0].function.name) == ("toolu_1", "weather")
    assert "".join(call.function.arguments or "" for call in called) == tool["arguments"]
    assert chunks[-2].choices[0].finish_reason == "tool_calls"
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (20, 5)
    assert usage.completion_tokens_details.reasoning_tokens == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_what_gemini_signed_goes_to_an_openai_client_and_back(start_stack: StartStack, stream: bool) -> None:
    """Such a model refuses a history of tools without its signatures; the client keeps them unknowing."""
    tool = ToolCall("weather", '{"city": "Zürich"}', "call_1")
    models = [{"type": "main", "engine": "google_genai", "model": "gemini-3.8-pro"}]
    stack = await start_stack(configs={"main": {"models": models}}, script=Script(tool_calls=(tool,)))
    messages: list[Any] = [{"role": "user", "content": "How is it there?"}]
    async with stack.client() as client:
        asked = {"model": "gemini-3.8-pro", "messages": messages}
        if stream:
            async with client.chat.completions.stream(**asked) as answering:
                completion: Any = await answering.get_final_completion()
        else:
            completion = await client.chat.completions.create(**asked)
        message = completion.choices[0].message
        messages += [
            message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sun"},
        ]
        stack.upstream.script = Script(words=3)
        completion = await client.chat.completions.create(**asked)
    assert completion.choices[0].message.content == "".join(Script(words=3).says())
    body = stack.upstream.ledger[-1].body
    assert body is not None
    (part,) = body["request"]["contents"][1]["parts"]
    assert part["thoughtSignature"] == SIGNATURE
