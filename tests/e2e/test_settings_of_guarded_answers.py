"""The settings of guarded answers over real HTTP: channels that no rail reads, and masks over split texts."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from harness.sse import fetch
from harness.stack import MODEL, Stack
from railstream.testing import Judge, Script

StartStack = Callable[..., Awaitable[Stack]]
MARK, NUMBER = "secret-123456", "078-05-1120"
MAIN = {"type": "main", "engine": "openai", "model": MODEL}
JUDGE = {"type": "self_check_output", "engine": "openai", "model": "judge"}
STREAMING = {"streaming": {"enabled": True, "chunk_size": 2, "context_size": 20}}


def judged(**output: Any) -> dict[str, Any]:
    """A judge of the content alone."""
    given = STREAMING | {"flows": ["self check output"], "channels": {"self check output": ["content"]}} | output
    return {
        "models": [MAIN, JUDGE],
        "prompts": [{"task": "self_check_output", "content": "Is it in here? {{ bot_response }}"}],
        "rails": {"output": given},
    }


def local(flow: str, section: dict[str, Any], **output: Any) -> dict[str, Any]:
    return {"models": [MAIN], "rails": {"output": STREAMING | {"flows": [flow]} | output, "config": section}}


PII = {"pii_patterns": {"output": {"entities": ["ssn", "email"]}}}
CONFIGS: dict[str, Any] = {
    "drop": judged(),
    "pass": judged(unread_channels="pass"),
    "mask": local("mask pii on output", PII),
}


@pytest.fixture
async def stack(start_stack: StartStack) -> Stack:
    return await start_stack(configs=CONFIGS, models={"judge": Script(judge=Judge(MARK))})


async def deltas(stack: Stack, config: str, *sent: Any, **more: Any) -> list[dict[str, Any]]:
    """The choices of the frames of a streamed answer."""
    stack.upstream.script = Script(deltas=sent, **more.pop("script", {}))
    async with stack.ask(guardrails={"config_id": config}, **more) as stream:
        assert stream.status == 200, await stream.body()
        frames = await stream.read()
    found = [json.loads(frame.data) for frame in frames if frame.data.startswith("{")]
    return [choice for chunk in found for choice in chunk.get("choices") or ()]


def joined(choices: list[dict[str, Any]], field: str) -> str:
    return "".join(choice["delta"].get(field) or "" for choice in choices)


CALL = {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]}


@pytest.mark.parametrize("config", ["drop", "pass"])
async def test_text_that_no_rail_reads_is_left_out_unless_the_config_passes_it(stack: Stack, config: str) -> None:
    choices = await deltas(stack, config, {"reasoning_content": f"so {MARK}"}, "All is well. ", {"refusal": "no"}, CALL)
    passes = config == "pass"
    assert joined(choices, "content") == "All is well. "
    assert joined(choices, "reasoning_content") == (f"so {MARK}" if passes else "")
    assert joined(choices, "refusal") == ("no" if passes else "")
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls") or ()]
    assert [call["function"]["arguments"] for call in calls] == (['{"a":1}'] if passes else [])
    blocked = await deltas(stack, config, {"reasoning_content": "hm"}, f"it is {MARK}, and on")
    assert MARK not in joined(blocked, "content")


SPLIT: dict[str, tuple[Any, ...]] = {
    "in one delta": (f"id {NUMBER}, ok",),
    "a character each": tuple(f"id {NUMBER}, ok"),
    "over deltas with a role": ({"role": "assistant", "content": "id 078-"}, {"content": "05-1120, ok"}),
    "with an unknown key between": ("id 078", {"content": "-05-", "note": NUMBER}, "1120, ok"),
    "with an empty delta between": ("id 078-", {"content": ""}, {"content": None}, "05-1120, ok"),
    "with another channel between": ("id 078-05", {"reasoning_content": "hm"}, "-1120, ok"),
    "with invisible characters": ("id 078\u200b-0", "\u00ad5-11\u200d20, ok"),
    "with full-width digits": ("id ０７８-", "０５-１１２０, ok"),  # noqa: RUF001
    "in blocks": ({"content": [{"type": "text", "text": "id 078-05"}, {"type": "text", "text": "-1120, ok"}]},),
    "with an override of direction": ("id \u202e078-05-", "1120\u202c, ok"),
}


@pytest.mark.parametrize("how", SPLIT)
async def test_a_number_is_masked_however_it_is_split_over_deltas(stack: Stack, how: str) -> None:
    streamed = joined(await deltas(stack, "mask", *SPLIT[how]), "content")
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "guardrails": {"config_id": "mask"}}
    _, answer = await fetch(f"{stack.url}/v1/chat/completions", body=body)
    for text in (streamed, answer["choices"][0]["message"]["content"]):
        assert text.replace("\u202c", "") == "id [ssn], ok"


async def test_numbers_in_other_kinds_of_text_are_masked_where_they_stand(stack: Stack) -> None:
    arguments = json.dumps({"id": NUMBER, "n": [f"a@x.example and {NUMBER}"]})
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    sent = ({"reasoning_content": "of 078-05"}, {"reasoning_content": "-1120."}, {"tool_calls": [call]})
    choices = await deltas(stack, "mask", *sent)
    assert joined(choices, "reasoning_content") == "of [ssn]."
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls") or ()]
    assert json.loads(calls[0]["function"]["arguments"]) == {"id": "[ssn]", "n": ["[email] and [ssn]"]}
