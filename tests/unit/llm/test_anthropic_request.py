"""A chat completion's request as Anthropic's Messages have it."""

from __future__ import annotations

from typing import Any

import pytest
from railstream.errors import CallError
from railstream_engine.providers.anthropic.request import CONTINUE, MAX_TOKENS, body_of


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


def test_system_messages_stand_apart_and_turns_alternate() -> None:
    messages = [
        {"role": "system", "content": "Be brief."}, user("a"), user("b"), {"role": "assistant", "content": "c"},
        {"role": "developer", "content": "In French."}, user("d"),
    ]  # fmt: skip
    body = body_of("claude", messages, {})
    assert body["system"] == [text("Be brief."), text("In French.")]
    assert body["messages"] == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [text("c")]},
        {"role": "user", "content": [text("d")]},
    ]
    assert (body["max_tokens"], body["stream"]) == (MAX_TOKENS, True)


def test_a_tool_loop_keeps_its_ids() -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    messages = [
        user("go"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "42"},
        user("and?"),
    ]
    _, asked, answered = body_of("claude", messages, {})["messages"]
    assert asked["content"] == [{"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}}]
    assert answered["content"] == [{"type": "tool_result", "tool_use_id": "t1", "content": [text("42")]}, text("and?")]


def test_tools_and_how_they_may_be_chosen() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]
    body = body_of("claude", [user("x")], {"tools": tools, "tool_choice": "required", "parallel_tool_calls": False})
    assert body["tools"] == [{"name": "f", "description": "d", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    named = {"type": "function", "function": {"name": "f"}}
    chosen = body_of("claude", [user("x")], {"tools": tools, "tool_choice": named})
    assert chosen["tool_choice"] == {"type": "tool", "name": "f"}


def test_images_are_urls_or_data() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    linked, inline = body_of("claude", [user(parts)], {})["messages"][0]["content"]
    assert linked["source"] == {"type": "url", "url": "https://x/y.png"}
    assert inline["source"] == {"type": "base64", "media_type": "image/png", "data": "AAAA"}


def test_limits_stops_users_and_effort_have_their_counterparts() -> None:
    params = {"max_completion_tokens": 9, "stop": "END", "user": "u", "reasoning_effort": "low"}
    body = body_of("claude", [user("x")], params)
    assert body["max_tokens"] == 9
    assert body["stop_sequences"] == ["END"]
    assert body["metadata"] == {"user_id": "u"}
    assert body["output_config"] == {"effort": "low"}


def test_an_answer_that_was_begun_is_asked_to_go_on() -> None:
    messages = body_of("claude", [user("x"), {"role": "assistant", "content": "begun"}], {})["messages"]
    assert messages[-1] == {"role": "user", "content": CONTINUE}


@pytest.mark.parametrize(
    ("messages", "params", "param"),
    [
        ([user([{"type": "input_audio"}])], {}, "messages"),
        ([user("x")], {"frequency_penalty": 1}, "frequency_penalty"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_its_name(messages: Any, params: Any, param: str) -> None:
    with pytest.raises(CallError) as caught:
        body_of("claude", messages, params)
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)
