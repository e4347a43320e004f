"""No field that a provider fills reaches a client unread: in streams, plain answers, events, flows and sessions."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from harness.sse import fetch, opened
from harness.stack import MODEL, Stack
from railstream.testing import Judge, Script

StartStack = Callable[..., Awaitable[Stack]]
MARK = "secret-123456"
MAIN = {"type": "main", "engine": "openai", "model": MODEL}
OUTPUT = {"streaming": {"enabled": True, "chunk_size": 2, "context_size": 20}}
CONFIGS: dict[str, Any] = {
    "regex": {
        "models": [MAIN],
        "rails": {
            "output": OUTPUT | {"flows": ["regex check output"]},
            "config": {"regex_detection": {"output": {"patterns": ["secret-[0-9]{6}"]}}},
        },
    },
    "judge": {
        "models": [MAIN, {"type": "self_check_output", "engine": "openai", "model": "judge"}],
        "prompts": [{"task": "self_check_output", "content": "Is it in here? {{ bot_response }}"}],
        "rails": {"output": OUTPUT | {"flows": ["self check output"]}},
    },
}


def call(**more: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": "{}"} | more.pop("function", {})
    return {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function} | more]}


SENT: dict[str, dict[str, Any]] = {
    "an unknown key": {"deltas": ("Hello", {"content": " you", "note": MARK})},
    "an unknown key alone": {"deltas": ("Hello", {"note": {"text": [MARK]}})},
    "a role": {"deltas": ({"role": MARK, "content": "Hello"},)},
    "arguments as an object": {"deltas": (call(function={"arguments": {"a": MARK}}),)},
    "arguments as a list": {"deltas": (call(function={"arguments": [MARK]}),)},
    "arguments as text": {"deltas": (call(function={"arguments": json.dumps({"a": MARK})}),)},
    "arguments with escapes": {"deltas": (call(function={"arguments": '{"a": "\\u0073ecret-123456"}'}),)},
    "a custom tool's input": {"deltas": ({"tool_calls": [{"index": 0, "custom": {"name": "f", "input": MARK}}]},)},
    "a function's name": {"deltas": (call(function={"name": MARK}),)},
    "a call's id": {"deltas": (call(id=MARK),)},
    "a call's type": {"deltas": (call(type=MARK),)},
    "an unknown key of a call": {"deltas": (call(note=MARK),)},
    "reasoning": {"deltas": ({"reasoning_content": f"It is {MARK}."}, "Hello")},
    "reasoning under its short name": {"deltas": ({"reasoning": f"It is {MARK}."}, "Hello")},
    "a refusal": {"deltas": ({"refusal": MARK},)},
    "citations": {"deltas": ("Hello",), "extra": {"citations": [MARK], "search_results": [{"title": MARK}]}},
    "a fingerprint": {"deltas": ("Hello",), "extra": {"system_fingerprint": f"fp_{MARK}", "service_tier": MARK}},
    "filter results": {
        "deltas": ("Hello",),
        "extra": {"prompt_filter_results": [{"content_filter_results": {MARK: {"filtered": False}}}]},
        "choice_extra": {"content_filter_results": {"hate": {"severity": MARK}}},
    },
    "a stop reason": {"deltas": ("Hello",), "choice_extra": {"stop_reason": MARK, "native_finish_reason": MARK}},
    "the finish reason": {"deltas": ("Hello",), "finish_reason": MARK},
}


@pytest.fixture
async def guarded(start_stack: StartStack) -> Stack:
    return await start_stack(configs=CONFIGS, models={"judge": Script(judge=Judge(MARK))})


def unescaped(data: bytes) -> str:
    """What came, with every JSON escape undone."""
    text = data.decode()
    while "\\\\" in text:
        text = text.replace("\\\\", "\\")
    return text.replace("\\u0073", "s")


async def streamed(stack: Stack, config: str) -> bytes:
    async with stack.ask(guardrails={"config_id": config}) as stream:
        if stream.status == 502:  # a provider's fault before the first token
            return bytes(await stream.body())
        assert stream.status == 200, await stream.body()
        await stream.read()
    events = f"{stack.url}/v1/chat/completions/{stream.request_id}"
    async with opened(f"{events}/events") as native:
        await native.read()
    _, whole = await fetch(events)
    return bytes(stream.raw) + bytes(native.raw) + json.dumps(whole).encode()


async def plain(stack: Stack, config: str) -> bytes:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Say it."}], "guardrails": {"config_id": config}}
    _, answer = await fetch(f"{stack.url}/v1/chat/completions", body=body)
    return json.dumps(answer).encode()


async def in_a_session(stack: Stack, config: str) -> bytes:
    _, session = await fetch(f"{stack.url}/v1/sessions", body={})
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Say it."}], "guardrails": {"config_id": config}}
    body["railstream"] = {"session": session["id"]}
    _, answer = await fetch(f"{stack.url}/v1/chat/completions", body=body)
    _, kept = await fetch(f"{stack.url}/v1/sessions/{session['id']}/branches/main/messages")
    return json.dumps([answer, kept]).encode()


async def in_a_flow(stack: Stack, config: str) -> bytes:
    operations = [{"id": "one", "model": MODEL, "instruction": "Say it.", "config_id": config}]
    async with opened(f"{stack.url}/v1/flows", body={"operations": operations, "stream": True}) as stream:
        body = await stream.body()
        assert stream.status == 200, body
    return bytes(body)


@pytest.mark.parametrize("way", [streamed, plain, in_a_session, in_a_flow])
@pytest.mark.parametrize("config", list(CONFIGS))
async def test_a_marker_in_any_field_reaches_nobody(
    guarded: Stack, config: str, way: Callable[[Stack, str], Awaitable[bytes]]
) -> None:
    for where, script in SENT.items():
        guarded.upstream.script = Script(**script)
        assert MARK not in unescaped(await way(guarded, config)), where


async def test_a_providers_error_reaches_nobody_in_its_own_words(guarded: Stack) -> None:
    for fault, code in (("error_before", "provider"), ("error_during", "provider"), ("bad_json", "provider")):
        guarded.upstream.script = Script(words=3, fault=fault, at=0)
        said = await plain(guarded, "regex")
        assert b"testing upstream" not in said
        assert json.loads(said)["error"]["code"] == code
