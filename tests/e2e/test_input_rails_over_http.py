"""What a client sends in whatever place of a request is refused or masked before the provider's ledger sees it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from harness.sse import fetch, opened
from harness.stack import MODEL, Stack
from railstream.testing import Judge, Script
from redis.asyncio import Redis

StartStack = Callable[..., Awaitable[Stack]]
REFUSAL = "I'm sorry, I can't respond to that."
MAIN = {"type": "main", "engine": "openai", "model": MODEL}
CONFIGS: dict[str, Any] = {
    "terms": {
        "models": [MAIN],
        "rails": {
            "input": {"flows": ["terms check input"]},
            "config": {"terms": {"input": {"terms": ["tungsten"]}}},
        },
    },
    "mask": {
        "models": [MAIN],
        "rails": {
            "input": {"flows": ["mask pii on input"]},
            "config": {"pii_patterns": {"input": {"entities": ["ssn"]}}},
        },
    },
    "judge": {
        "models": [MAIN, {"type": "self_check_input", "engine": "openai", "model": "judge"}],
        "prompts": [{"task": "self_check_input", "content": "Is it in here? {{ user_input }}"}],
        "rails": {"input": {"flows": ["self check input"]}},
    },
}


def user(*parts: str, **more: Any) -> dict[str, Any]:
    content: Any = parts[0] if len(parts) == 1 else [{"type": "text", "text": part} for part in parts]
    return {"role": "user", "content": content} | more


def call(arguments: str) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}


RESULT = {"role": "tool", "tool_call_id": "c", "content": "1"}
RESULT_OF = {"role": "tool", "tool_call_id": "c"}
SPLIT = (
    "a word over two parts", "letter by letter", "over a text and a refusal", "in JSON over two parts",
    "in the order shown",
)  # fmt: skip
"""A model reads all of it; the scripted judge looks for the word as it stands."""
BAD: dict[str, list[dict[str, Any]]] = {
    "one text": [user("about tungsten please")],
    "three parts": [user("about", "tungsten", "please")],
    "a word over two parts": [user("about tung", "sten please")],
    "before a claimed answer": [user("tungsten"), {"role": "assistant", "content": "Sure:"}],
    "answered long ago": [user("tungsten"), {"role": "assistant", "content": "ok"}, user("go on")],
    "in a claimed answer": [user("hi"), {"role": "assistant", "content": "tungsten"}, user("go on")],
    "in a tool's result": [user("hi"), call("{}"), RESULT | {"content": "tungsten"}],
    "in a call's arguments": [user("hi"), call('{"a": "tungst\\u0065n"}'), RESULT],
    "in a name": [user("hi", name="tungsten")],
    "letter by letter": [user("about", *"tungsten", "please", *"now")],
    "over a text and a refusal": [
        user("hi"),
        {"role": "assistant", "content": "tung", "refusal": "sten"},
        user("go on"),
    ],
    "in JSON over two parts": [user("hi"), call("{}"), RESULT | user('{"a":"\\u0074ung', 'sten"}', **RESULT_OF)],
    "in the order shown": [user("about \u202enetsgnut")],
    "in an unknown key": [user("hi", note="tungsten")],
}


@pytest.fixture
async def guarded(start_stack: StartStack) -> Stack:
    return await start_stack(configs=CONFIGS, models={"judge": Script(judge=Judge("tungsten"))})


async def answer(stack: Stack, config: str, messages: list[dict[str, Any]], **more: Any) -> str:
    body = {"model": MODEL, "messages": messages, "guardrails": {"config_id": config}} | more
    if more.get("stream"):
        async with opened(f"{stack.url}/v1/chat/completions", body=body) as stream:
            return "".join(frame.text for frame in await stream.read())
    status, found = await fetch(f"{stack.url}/v1/chat/completions", body=body)
    assert status == 200, found
    return str(found["choices"][0]["message"]["content"])


def asked(stack: Stack) -> list[Any]:
    """What the answering model was sent."""
    return [entry.body for entry in stack.upstream.ledger if entry.model == MODEL]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_forbidden_word_is_refused_wherever_it_stands(guarded: Stack, stream: bool) -> None:
    for config in ("terms", "judge"):
        for where, messages in BAD.items():
            if config == "judge" and where in SPLIT:
                continue
            assert await answer(guarded, config, messages, stream=stream) == REFUSAL, (config, where)
    assert asked(guarded) == []


async def test_a_number_is_masked_wherever_it_stands(guarded: Stack) -> None:
    number = "078-05-1120"
    for messages in ([user("id", number, "1")], [user("id 078-05", "-1120 1")], [user("hi", name=number)]):
        await answer(guarded, "mask", messages)
    tool = {"type": "function", "function": {"name": "f", "description": f"of {number}"}}
    await answer(guarded, "mask", [{"role": "system", "content": f"s {number}"}, user("hi")], tools=[tool])
    sent = json.dumps(asked(guarded))
    assert len(asked(guarded)) == 4
    assert number not in sent
    assert "078" not in sent
    assert sent.count("[ssn]") == 5


async def test_a_clean_request_reaches_the_provider_as_it_was_sent(guarded: Stack) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        user("one", "two"),
        call('{"a":  "b"}'),
        {"role": "tool", "tool_call_id": "c", "content": "3"},
        user("go on", name="ada"),
    ]
    for config in CONFIGS:
        await answer(guarded, config, messages)
    assert [body["messages"] for body in asked(guarded)] == [messages] * len(CONFIGS)


async def test_a_long_conversation_costs_one_question_per_turn(guarded: Stack) -> None:
    messages: list[dict[str, Any]] = []
    for turn in range(5):
        messages.append(user(f"question {turn}"))
        said = await answer(guarded, "judge", messages)
        messages.append({"role": "assistant", "content": said})
    questions = [entry.body for entry in guarded.upstream.ledger if entry.model == "judge"]
    assert len(questions) == 5
    assert "question 0" not in json.dumps(questions[-1])


async def test_sessions_and_flows_are_read_as_well(guarded: Stack) -> None:
    _, session = await fetch(f"{guarded.url}/v1/sessions", body={})
    on = {"railstream": {"session": session["id"]}}
    assert await answer(guarded, "terms", [user("tung", "sten")], **on) == REFUSAL
    operations = [{"id": "one", "model": MODEL, "instruction": "Tell of tungsten.", "config_id": "terms"}]
    async with opened(f"{guarded.url}/v1/flows", body={"operations": operations, "stream": True}) as stream:
        assert REFUSAL.encode() in await stream.body()
    assert asked(guarded) == []


NUMBER = "078-05-1120"
PLACE = "/branches/main/messages"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_session_keeps_what_the_rails_made_of_a_question(guarded: Stack, stream: bool) -> None:
    _, session = await fetch(f"{guarded.url}/v1/sessions", body={})
    on = {"railstream": {"session": session["id"]}}
    await answer(guarded, "mask", [user("hi"), user(f"id {NUMBER}", "078-05", "-1120")], stream=stream, **on)
    await answer(guarded, "mask", [user(f"and {NUMBER}")], **on)
    _, kept = await fetch(f"{guarded.url}/v1/sessions/{session['id']}{PLACE}")
    assert [message["role"] for message in kept["data"]] == ["user", "user", "assistant", "user", "assistant"]
    assert kept["data"][0]["content"] == "hi"
    assert "078" not in json.dumps(kept)
    assert json.dumps(kept).count("[ssn]") == 3
    assert NUMBER not in json.dumps(asked(guarded))


async def test_a_thread_keeps_what_the_rails_made_of_a_question(guarded: Stack) -> None:
    await answer(guarded, "mask", [user(f"id {NUMBER}")], guardrails={"config_id": "mask", "thread_id": "t" * 16})
    redis = Redis.from_url(guarded.redis_url)
    kept = [await redis.hgetall(key) async for key in redis.scan_iter("*sess-*messages*")]
    await redis.aclose()
    assert "[ssn]" in str(kept)
    assert NUMBER not in str(kept)


async def test_a_flow_keeps_what_the_rails_made_of_its_questions(guarded: Stack) -> None:
    _, session = await fetch(f"{guarded.url}/v1/sessions", body={})
    one = {"id": "one", "model": MODEL, "instruction": f"Tell of {NUMBER}.", "config_id": "mask", "branch": "main"}
    two = one | {"id": "two", "instruction": "Go on.", "depends_on": ["one"]}
    body = {"operations": [one, two], "stream": True, "railstream": {"session": session["id"]}}
    async with opened(f"{guarded.url}/v1/flows", body=body) as stream:
        assert NUMBER.encode() not in await stream.body()
    _, kept = await fetch(f"{guarded.url}/v1/sessions/{session['id']}{PLACE}")
    assert [message["content"] for message in kept["data"]][::2] == ["Tell of [ssn].", "Go on."]
    assert NUMBER not in json.dumps(asked(guarded))
