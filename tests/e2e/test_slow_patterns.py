"""A pattern that backtracks, or a delta of megabytes under a mask, does not hold up the neighbours' streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from harness.sse import Frame
from harness.stack import MODEL, Stack
from railstream.testing import Script, directive

WORDS, RATE = 200, 50
MAIN = {"models": [{"type": "main", "engine": "openai", "model": MODEL}]}
SLOW = MAIN | {
    "rails": {
        "input": {"flows": ["regex check input"]},
        "config": {"regex_detection": {"input": {"patterns": [r"(\w+\s?)+!!$", "(a|aa)+$"]}}},
    }
}
MASKED = MAIN | {"rails": {"output": {"flows": ["mask pii on output"], "streaming": {"enabled": True}}}}
MESSAGES = [
    {"role": "user", "content": ("a" * 50 + " word words wording " * 20)[: 55 + 20 * number] + "!! so"}
    for number in range(12)
]
LARGEST_GAP = 0.4
"""Seconds between two words of 0.02: the machine that runs the tests may be busy; it was 4 s."""


async def test_a_neighbour_without_rails_streams_on(start_stack: Callable[..., Awaitable[Stack]]) -> None:
    stack = await start_stack(configs={"main": MAIN, "slow": SLOW, "masked": MASKED})
    async with stack.ask(directive(words=3)) as warm:
        await warm.read()

    async def others() -> None:
        slow: dict[str, Any] = {"messages": MESSAGES, "guardrails": {"config_id": "slow"}}
        async with stack.ask(**slow) as first, stack.ask(**slow) as second:
            await asyncio.gather(first.read(), second.read())
        assert b"rail_execution_failure" in first.raw
        said = directive(text="mail a.b@example.com today " * 8000, piece=1_000_000)
        async with stack.ask(said, guardrails={"config_id": "masked"}) as third:
            await third.read()
        assert third.text == "mail [email] today " * 8000

    gaps: list[float] = []
    async with stack.ask(directive(words=WORDS, rate=RATE, seed=1)) as stream:
        beside = asyncio.create_task(others())
        last = time.monotonic()
        async for piece in stream.pieces():
            stream.raw += piece
            gaps.append(time.monotonic() - last)
            last = time.monotonic()
        await beside
    text = "".join(Frame(block + b"\n\n").text for block in stream.raw.split(b"\n\n") if b"data: " in block)
    assert text == "".join(Script(words=WORDS, seed=1).says())
    assert max(gaps[5:]) < LARGEST_GAP, max(gaps[5:])
    (worker,) = stack.workers
    assert worker.running
