"""The main job as its users meet it: the `openai` SDK, two gateways, two workers, one Redis, a real HTTP upstream."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from harness.sse import Frame, Stream, fetch, opened
from harness.stack import MODEL, Stack
from harness.waiting import answers
from railstream.testing import Script, directive

StartStack = Callable[..., Awaitable[Stack]]
KEEP_ON = {"X-Railstream-On-Disconnect": "continue"}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture
async def pair(start_stack: StartStack) -> Stack:
    """Two gateways and two workers."""
    return await start_stack(gateways=2, workers=2)


def messages(**script: Any) -> list[dict[str, str]]:
    return [{"role": "user", "content": directive(**script)}]


def says(**script: Any) -> str:
    return "".join(Script(**script).says())


def contents(frames: list[Frame]) -> list[str]:
    """The text of each frame that carries a delta with content, the role's own frame left out."""
    deltas = [frame.json["choices"][0]["delta"] for frame in frames if not frame.done and frame.json.get("choices")]
    return [delta["content"] for delta in deltas if "content" in delta and "role" not in delta]


async def whole(stream: Stream) -> list[Frame]:
    return await stream.read()


async def test_the_sdk_streams_with_usage(stack: Stack) -> None:
    async with stack.client() as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=messages(words=9, seed=1), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == says(words=9, seed=1)
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == "stop"
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 9)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


async def test_the_sdk_gets_a_whole_answer(stack: Stack) -> None:
    async with stack.client() as client:
        answer = await client.chat.completions.create(model=MODEL, messages=messages(words=9, seed=1))
    assert answer.choices[0].message.content == says(words=9, seed=1)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("stop", 9)


async def test_tool_calls_are_relayed_in_a_stream_and_whole(stack: Stack) -> None:
    called = messages(tool_calls=[{"name": "weather", "arguments": '{"city": "Zürich"}', "id": "call_1"}])
    async with stack.client() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=called, tools=[WEATHER], stream=True)
        arguments, names, reason = "", [], None
        async for chunk in stream:
            reason = chunk.choices[0].finish_reason or reason
            for call in chunk.choices[0].delta.tool_calls or ():
                arguments += call.function.arguments or ""
                names += [call.function.name] if call.function.name else []
        answer = await client.chat.completions.create(model=MODEL, messages=called, tools=[WEATHER])
    assert (json.loads(arguments), names, reason) == ({"city": "Zürich"}, ["weather"], "tool_calls")
    (call,) = answer.choices[0].message.tool_calls
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == (
        "call_1",
        "weather",
        {"city": "Zürich"},
    )
    assert stack.upstream.ledger[-1].body["tools"] == [WEATHER]


async def test_request_options_travel_to_the_provider(stack: Stack) -> None:
    options: dict[str, Any] = {
        "temperature": 0.3,
        "top_p": 0.9,
        "max_completion_tokens": 50,
        "stop": ["\n\n"],
        "seed": 7,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "response_format": {"type": "json_object"},
        "user": "u-1",
        "metadata": {"team": "a"},
        "reasoning_effort": "low",
    }
    async with stack.client() as client:
        await client.chat.completions.create(model=MODEL, messages=messages(words=2), **options)
    sent = stack.upstream.ledger[-1].body
    assert {name: sent.get(name) for name in options} == options
    assert sent["stream_options"]["include_usage"] is True


async def test_several_choices_come_back_each_with_its_finish(stack: Stack) -> None:
    async with stack.client() as client:
        answer = await client.chat.completions.create(model=MODEL, messages=messages(words=4), n=2)
        stream = await client.chat.completions.create(model=MODEL, messages=messages(words=4), n=2, stream=True)
        indexes = [choice.index async for chunk in stream for choice in chunk.choices if choice.finish_reason]
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.message.content for choice in answer.choices)
    assert sorted(indexes) == [0, 1]


async def test_each_kind_of_error_has_its_status_and_its_class(stack: Stack) -> None:
    kinds: list[tuple[dict[str, Any], type[openai.APIError], str]] = [
        ({"model": "nobody", "messages": messages(words=1)}, openai.NotFoundError, "model_not_found"),
        ({"messages": []}, openai.BadRequestError, "invalid_request"),
        ({"messages": messages(words=1), "temperature": "hot"}, openai.BadRequestError, "invalid_request"),
        ({"messages": messages(fault="error_before", status=429)}, openai.RateLimitError, "rate_limit_exceeded"),
        ({"messages": messages(fault="error_before", status=500)}, openai.InternalServerError, "provider"),
        ({"messages": messages(fault="early_end", at=2)}, openai.InternalServerError, "truncated"),
    ]
    async with stack.client() as client:
        for request, kind, code in kinds:
            with pytest.raises(kind) as caught:
                await client.chat.completions.create(**({"model": MODEL} | request))
            assert caught.value.code == code, request
        with pytest.raises(openai.APIError) as caught:
            async for _ in await client.chat.completions.create(
                model=MODEL, messages=messages(fault="early_end", at=2), stream=True
            ):
                pass
        assert caught.value.code == "truncated"


async def test_models_and_configs_are_listed(stack: Stack) -> None:
    async with stack.client() as client:
        assert [model.id async for model in client.models.list()] == [MODEL]
        assert (await client.models.retrieve(MODEL)).id == MODEL
    assert await fetch(f"{stack.url}/v1/rails/configs") == (200, [{"id": "main"}])


DELTAS: list[str] = [
    "Grüße",
    " ",
    "",
    "\n\n",
    "東京",
    "\U0001f469\u200d",
    "\U0001f680",
    "  two  ",
    "{}",
    '{"error": {"message": "m", "type": "guardrails_violation"}}',
    "data: [DONE]\n\n",
    '"quoted\\',
    "\u0000\u2028",
    "x" * 1024 * 1024,
    "end",
]


async def test_deltas_arrive_as_the_upstream_sent_them_one_frame_each(stack: Stack) -> None:
    stack.upstream.script = Script(deltas=tuple(DELTAS))
    async with stack.ask() as stream:
        frames = await whole(stream)
    assert contents(frames) == DELTAS
    assert frames[-1].done
    ids = [tuple(map(int, frame.id.split("-"))) for frame in frames if frame.id]
    assert ids == sorted(set(ids))


async def test_raw_deltas_keep_their_bytes(stack: Stack) -> None:
    raw = {"content": "a", "annotations": [{"z": 1, "a": {"k": None}}]}
    stack.upstream.script = Script(deltas=(raw,))
    async with stack.ask() as stream:
        frames = await whole(stream)
    assert [frame.json["choices"][0]["delta"] for frame in frames[1:-2]] == [raw]


async def test_a_stream_cut_after_any_frame_goes_on_at_the_other_gateway(pair: Stack) -> None:
    asked = {"headers": KEEP_ON, "stream_options": {"include_usage": True}}
    async with pair.ask(directive(words=12, seed=2, rate=100), **asked) as stream:
        uncut = await whole(stream)
        request_id = stream.request_id
    for count in range(len(uncut)):
        last = next((frame.id for frame in reversed(uncut[:count]) if frame.id), None)
        async with pair.resume(request_id, last, gateway=1) as rest:
            assert [frame.raw for frame in await whole(rest)] == [frame.raw for frame in uncut[count:]]
        if last is not None:
            url = f"{pair.gateways[0].api}/chat/completions/{request_id}?stream=true&starting_after={last}"
            async with opened(url) as rest:
                assert [frame.raw for frame in await whole(rest)] == [frame.raw for frame in uncut[count:]]


async def test_a_stream_cut_while_it_runs_equals_the_uncut_one(pair: Stack) -> None:
    for count in range(1, 14):
        content = directive(words=12, seed=count, rate=60)
        async with pair.ask(content, headers=KEEP_ON) as stream:
            seen = list(await stream.read(frames=count))
            request_id, last = stream.request_id, stream.last_event_id
            stream.reset()
        async with pair.resume(request_id, last, gateway=1) as rest:
            frames = [*seen, *(await whole(rest))]
        async with pair.resume(request_id) as again:
            assert [frame.raw for frame in await whole(again)] == [frame.raw for frame in frames]
        assert "".join(contents(frames)) == says(words=12, seed=count)


async def test_a_cancel_at_another_gateway_stops_the_upstream_within_a_second(pair: Stack) -> None:
    async with pair.ask(directive(words=500, rate=40)) as stream:
        await stream.read(frames=4)
        asked = time.monotonic()
        status, _ = await pair.cancel(stream.request_id, gateway=1)
        await pair.upstream.ledger.wait(open=0, timeout=5)
        assert time.monotonic() - asked < 1
        assert status == 200
        frames = await whole(stream)
    assert frames[-2].json["error"]["code"] == "request_cancelled"
    assert (await pair.cancel(stream.request_id))[0] == 200, "cancelling twice is no error"


async def test_a_cancel_reaches_a_request_that_waits_in_the_queue(start_stack: StartStack) -> None:
    stack = await start_stack(gateways=2, workers=1, concurrency=1)
    async with stack.ask(directive(words=500, rate=40)) as running:
        await running.read(frames=2)
        async with stack.ask(directive(words=5)) as queued:
            await stack.cancel(queued.request_id, gateway=1)
            frames = await whole(queued)
        assert frames[-2].json["error"]["code"] == "request_cancelled"
        assert len(stack.upstream.ledger) == 1
        running.reset()


async def test_a_client_that_leaves_stops_the_generation(stack: Stack) -> None:
    async with stack.ask(directive(words=500, rate=40)) as stream:
        await stream.read(frames=4)
        stream.reset()
    left = time.monotonic()
    await stack.upstream.ledger.wait(open=0, timeout=5)
    assert time.monotonic() - left < 1
    assert stack.upstream.ledger[-1].outcome == "closed_by_client"


async def test_a_client_that_asked_to_continue_may_leave(stack: Stack) -> None:
    async with stack.ask(directive(words=30, rate=60, seed=4), headers=KEEP_ON) as stream:
        await stream.read(frames=4)
        stream.reset()
    await stack.upstream.ledger.wait(open=0, ended=1, timeout=10)
    assert stack.upstream.ledger[-1].outcome == "finished"
    async with stack.resume(stream.request_id) as again:
        assert "".join(contents(await whole(again))) == says(words=30, seed=4)


async def test_fifty_streams_finish_through_two_workers_of_eight(start_stack: StartStack) -> None:
    stack = await start_stack(gateways=1, workers=2, concurrency=8)

    async def one(seed: int) -> str:
        async with stack.ask(directive(words=20, rate=40, seed=seed)) as stream:
            return "".join(contents(await whole(stream)))

    running = [asyncio.create_task(one(seed)) for seed in range(50)]
    asked = 0
    while not all(task.done() for task in running):
        for page in ("readyz", "metrics"):
            assert await answers(f"{stack.url}/{page}")
        asked += 1
        await asyncio.wait(running, timeout=0.2)
    assert [task.result() for task in running] == [says(words=20, seed=seed) for seed in range(50)]
    assert asked > 3


async def test_an_idempotency_key_is_one_generation(pair: Stack) -> None:
    headers = KEEP_ON | {"Idempotency-Key": "once"}
    content = directive(words=15, rate=60, seed=8)

    async def one(gateway: int) -> bytes:
        async with pair.ask(content, gateway=gateway, headers=headers) as stream:
            return b"".join(frame.raw for frame in await whole(stream))

    first, second = await asyncio.gather(one(0), one(1))
    later = await one(1)
    assert first == second == later
    assert len(pair.upstream.ledger) == 1
    async with pair.ask(directive(words=3), headers=headers) as other:
        assert other.status == 409


async def test_sigterm_drains_every_process_and_each_exits_with_0(pair: Stack) -> None:
    async with pair.ask(directive(words=25, rate=50, seed=3), headers=KEEP_ON) as stream:
        await stream.read(frames=3)
        assert await pair.gateways[0].terminate() == 0
        seen = list(stream.frames)
        async with pair.resume(stream.request_id, stream.last_event_id, gateway=1) as rest:
            frames = [*seen, *(await whole(rest))]
    assert "".join(contents(frames)) == says(words=25, seed=3)
    codes = [await process.terminate() for process in (*pair.workers, pair.gateways[1])]
    assert codes == [0, 0, 0]


async def test_a_finished_answer_can_be_fetched_and_a_running_one_says_so(stack: Stack) -> None:
    async with stack.ask(directive(words=10, hold=3), headers=KEEP_ON) as stream:
        await stream.read(frames=3)
        status, body = await stack.result(stream.request_id)
        assert (status, body["status"]) == (202, "running")
        stack.upstream.release()
        await whole(stream)
    status, body = await stack.result(stream.request_id)
    assert (status, body["choices"][0]["message"]["content"]) == (200, says(words=10))
