"""Parallel tool calls of a provider that does not number them reach the client as two calls, streamed or whole."""

from __future__ import annotations

from typing import Any

import pytest
from harness.stack import MODEL, Stack
from railstream.testing import directive

CALLS: list[dict[str, Any]] = [
    {"name": "weather", "arguments": {"city": "Bern"}, "id": "a"},
    {"name": "time", "arguments": {"zone": "CET"}, "id": "b"},
]
WANTED = [("a", "weather", '{"city":"Bern"}'), ("b", "time", '{"zone":"CET"}')]
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("weather", "time")
]


@pytest.mark.parametrize("index", ["own", "zero", "none"])
async def test_a_plain_answer_holds_each_parallel_call(stack: Stack, index: str) -> None:
    messages: list[Any] = [{"role": "user", "content": directive(tool_calls=CALLS, tool_index=index)}]
    async with stack.client() as client:
        answer = await client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    calls: Any = answer.choices[0].message.tool_calls
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == WANTED
    assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("index", ["zero", "none"])
async def test_a_stream_numbers_each_parallel_call(stack: Stack, index: str) -> None:
    messages: list[Any] = [{"role": "user", "content": directive(tool_calls=CALLS, tool_index=index)}]
    found: dict[int, list[str]] = {}
    async with stack.client() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS, stream=True)
        async for chunk in stream:
            for call in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
                told = found.setdefault(call.index, ["", "", ""])
                told[0] += call.id or ""
                told[1] += (call.function.name if call.function else "") or ""
                told[2] += (call.function.arguments if call.function else "") or ""
    assert [tuple(told) for _, told in sorted(found.items())] == WANTED
