"""What is kept of a conversation is what the rails have made of it: questions and answers, in every kind of history."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from harness.sse import fetch, opened
from harness.stack import MODEL, Stack
from railstream.testing import Script
from redis.asyncio import Redis

StartStack = Callable[..., Awaitable[Stack]]
ASKED, ANSWERED = "078-05-1120", "219-09-9999"
MAIN = {"type": "main", "engine": "openai", "model": MODEL}
ENTITIES = {"entities": ["ssn"]}


def masking(**more: Any) -> dict[str, Any]:
    return {
        "models": [MAIN],
        "rails": {
            "input": {"flows": ["mask pii on input"], **more},
            "output": {"flows": ["mask pii on output"], "streaming": {"enabled": True}},
            "config": {"pii_patterns": {"input": ENTITIES, "output": ENTITIES}},
        },
    }


CONFIGS = {"mask": masking(), "speculative": masking(speculative_generation=True)}


@pytest.fixture
async def stack(start_stack: StartStack) -> Stack:
    return await start_stack(configs=CONFIGS, script=Script(text=f"It is {ANSWERED}, ok", piece=3))


def question() -> list[dict[str, Any]]:
    parts = [{"type": "text", "text": text} for text in ("I am 078-05", "-1120.")]
    return [{"role": "system", "content": f"Of {ASKED}."}, {"role": "user", "content": parts, "name": "ada"}]


async def everything_kept(redis: Redis) -> str:
    """All that any key of a session holds."""
    found: list[Any] = []
    async for key in redis.scan_iter("railstream:*sess*"):
        kind = (await redis.type(key)).decode()
        found.append(await redis.hgetall(key) if kind == "hash" else key)
    return str(found)


async def in_a_session(stack: Stack, config: str, stream: bool) -> str:
    _, session = await fetch(f"{stack.url}/v1/sessions", body={})
    await asked(stack, config, stream, railstream={"session": session["id"]})
    _, kept = await fetch(f"{stack.url}/v1/sessions/{session['id']}/branches/main/messages")
    assert len(kept["data"]) == 3
    return json.dumps(kept)


async def in_a_thread(stack: Stack, config: str, stream: bool) -> str:
    for _ in range(2):
        await asked(stack, config, stream, thread_id=f"thread-{config}-0123456789-{stream}")
    history = stack.upstream.ledger[-1].body["messages"]
    assert len(history) == 5
    return json.dumps(history)


async def in_a_flow(stack: Stack, config: str, stream: bool) -> str:
    _, session = await fetch(f"{stack.url}/v1/sessions", body={})
    operations = [
        {"id": "a", "model": MODEL, "instruction": f"Of {ASKED}.", "config_id": config, "branch": "main"},
        {"id": "b", "model": MODEL, "instruction": f"More of {ASKED}.", "config_id": config, "branch": "main"},
    ]
    body = {"operations": operations, "stream": stream, "railstream": {"session": session["id"]}}
    if stream:
        async with opened(f"{stack.url}/v1/flows", body=body) as flow:
            said = (await flow.body()).decode()
            assert flow.status == 200, said
    else:
        status, found = await fetch(f"{stack.url}/v1/flows", body=body)
        said = json.dumps(found)
        assert status == 200, said
    assert ANSWERED not in said
    _, kept = await fetch(f"{stack.url}/v1/sessions/{session['id']}/branches/main/messages")
    assert len(kept["data"]) == 4
    return json.dumps(kept)


async def asked(stack: Stack, config: str, stream: bool, **place: Any) -> None:
    body = {"model": MODEL, "messages": question(), "guardrails": {"config_id": config}, "stream": stream} | place
    if stream:
        async with opened(f"{stack.url}/v1/chat/completions", body=body) as answer:
            text = "".join(frame.text for frame in await answer.read())
    else:
        status, found = await fetch(f"{stack.url}/v1/chat/completions", body=body)
        assert status == 200, found
        text = found["choices"][0]["message"]["content"]
    assert text == "It is [ssn], ok"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("way", [in_a_session, in_a_thread, in_a_flow])
async def test_what_the_rails_mask_is_kept_masked(
    stack: Stack, redis: Redis, way: Callable[[Stack, str, bool], Awaitable[str]], config: str, stream: bool
) -> None:
    kept = await way(stack, config, stream) + await everything_kept(redis)
    assert "[ssn]" in kept
    for number in (ASKED, ASKED[:6], ANSWERED):
        assert number not in kept
