"""A judge that takes its time stalls nothing: windows are checked while the next ones are generated."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from harness.stack import MODEL, Stack
from railstream.testing import Judge, Script, directive

JUDGE_SECONDS = 0.2
WORDS, RATE = 150, 50
GENERATION = WORDS / RATE
FIRST_WINDOW, WINDOW = 5, 10
SLACK = 1.2
"""Seconds for a loaded machine; judged one after the other, the windows alone would take twice the generation."""
CONFIG = {
    "models": [
        {"type": "main", "engine": "openai", "model": MODEL},
        {"type": "self_check_output", "engine": "openai", "model": "judge"},
    ],
    "prompts": [{"task": "self_check_output", "content": "Is this wrong? {{ bot_response }}"}],
    "rails": {
        "output": {
            "flows": ["self check output"],
            "streaming": {"enabled": True, "chunk_size": WINDOW, "context_size": 5, "first_chunk_size": FIRST_WINDOW},
        }
    },
}


async def judged(start_stack: Callable[..., Awaitable[Stack]]) -> Stack:
    judge = Script(judge=Judge("MARK"), delay_first=JUDGE_SECONDS)
    return await start_stack(configs={"main": CONFIG}, models={"judge": judge})


async def test_total_time_is_within_one_check_of_generation(start_stack: Callable[..., Awaitable[Stack]]) -> None:
    stack = await judged(start_stack)
    async with stack.ask(directive(words=3)) as warm:
        await warm.read()
    before = len(stack.upstream.ledger.calls(model="judge"))
    began = time.monotonic()
    async with stack.ask(directive(words=WORDS, rate=RATE, seed=1)) as stream:
        await stream.read()
    total = time.monotonic() - began
    assert stream.text == "".join(Script(words=WORDS, seed=1).says())
    assert total < GENERATION + JUDGE_SECONDS + SLACK
    asked = len(stack.upstream.ledger.calls(model="judge")) - before
    assert asked <= (WORDS - FIRST_WINDOW) // WINDOW + 3


async def test_the_first_token_comes_with_the_first_small_window(start_stack: Callable[..., Awaitable[Stack]]) -> None:
    stack = await judged(start_stack)
    async with stack.ask(directive(words=WORDS, hold=FIRST_WINDOW + 1)) as stream:
        await stream.read(frames=1 + FIRST_WINDOW)
        assert len(stack.upstream.ledger.calls(model="judge")) == 1
        stack.upstream.release()


async def test_a_block_stops_the_provider_at_once(start_stack: Callable[..., Awaitable[Stack]]) -> None:
    stack = await judged(start_stack)
    said = directive(text="fine words " * 5 + "MARK " + "more words " * 400, rate=RATE)
    async with stack.ask(said) as stream:
        frames = await stream.read()
    assert frames[-2].json["error"]["code"] == "content_blocked"
    assert "MARK" not in stream.text
    await stack.upstream.ledger.wait(open=0, timeout=5)
    (call,) = stack.upstream.ledger.calls(model=MODEL)
    assert (call.outcome, call.tokens < 200) == ("closed_by_client", True)
