"""Two hundred mixed requests: what was recorded of every call is what the provider's own ledger says."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from harness.sse import Incomplete, fetch
from harness.stack import MODEL, Stack
from harness.waiting import until
from railstream import events, keys
from railstream.events import Usage
from railstream.testing import Judge, Script, directive
from railstream.usage import read, today
from redis.asyncio import Redis

REQUESTS = 200
AT_ONCE = 40
MAIN = {"type": "main", "engine": "openai", "model": MODEL, "parameters": {"max_retries": 0}}
JUDGE = {"type": "self_check_output", "engine": "openai", "model": "judge"}
STREAMING = {"streaming": {"enabled": True, "chunk_size": 10, "context_size": 2}}
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"models": [MAIN]},
    "regex": {
        "models": [MAIN],
        "rails": {
            "output": {"flows": ["regex check output"], **STREAMING},
            "config": {"regex_detection": {"output": {"patterns": ["STOPHERE"]}}},
        },
    },
    "judge": {
        "models": [MAIN, JUDGE],
        "prompts": [{"task": "self_check_output", "content": "Wrong? {{ bot_response }}"}],
        "rails": {"output": {"flows": ["self check output"], **STREAMING}},
    },
}
KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("whole", "plain", {"words": 30, "rate": 60}),
    ("cancel", "plain", {"words": 400, "rate": 40}),
    ("whole", "plain", {"words": 30, "rate": 60, "fault": "early_end", "at": 9}),
    ("whole", "plain", {"fault": "error_before", "status": 500}),
    ("whole", "regex", {"text": "fine words " * 8 + "STOPHERE " + "more words " * 60, "rate": 60}),
    ("whole", "judge", {"words": 40, "rate": 60}),
    ("leave", "plain", {"words": 400, "rate": 40}),
    ("whole", "plain", {"words": 30, "rate": 60, "fault": "reset", "at": 12}),
)
QUICK = {"RAILSTREAM_LEASE": "3", "RAILSTREAM_SCAN": "0.3", "RAILSTREAM_REDIS_TIMEOUT": "2"}


async def ask(stack: Stack, number: int, begun: set[str]) -> None:
    """One client: it reads to the end, cancels or leaves."""
    what, config, script = KINDS[number % len(KINDS)]
    given = {"guardrails": {"config_id": config}}
    async with stack.ask(directive(**script, seed=number), **given) as stream:
        begun.add(stream.request_id)
        try:
            if what == "whole":
                await stream.read()
                return
            await stream.read(frames=4)
        except Incomplete:
            return
        if what == "cancel":
            await fetch(f"{stack.url}/v1/chat/completions/{stream.request_id}/cancel", body={})
        else:
            stream.reset()


async def logs(redis: Redis, request_ids: set[str]) -> dict[str, list[tuple[bytes, bytes]]]:
    found: dict[str, list[tuple[bytes, bytes]]] = {}
    for request_id in request_ids:
        entries: list[Any] = await redis.xrange(keys.events(request_id)) or []
        found[request_id] = [(fields[b"event"], fields[b"data"]) for _, fields in entries]
    return found


def ended(log: list[tuple[bytes, bytes]]) -> bool:
    return bool(log) and log[-1][0] in events.TERMINAL


@pytest.mark.timeout(240)
async def test_recorded_usage_equals_the_providers_ledger(
    start_stack: Callable[..., Awaitable[Stack]], redis: Redis
) -> None:
    stack = await start_stack(
        workers=0, gateways=0, configs=CONFIGS, models={"judge": Script(judge=Judge("NEVER"), delay_first=0.05)}
    )
    for _ in range(2):
        stack.add_worker(**QUICK)
    stack.add_gateway("--default-config", "plain")
    await stack.ready()
    begun: set[str] = set()
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with turn:
            await ask(stack, number, begun)

    running = [asyncio.create_task(one(number)) for number in range(REQUESTS)]
    await until(lambda: len(begun) > REQUESTS // 3, timeout=60, what="a third of the requests run")
    await stack.workers[0].kill()
    await stack.add_worker(**QUICK).ready()
    await asyncio.gather(*running)
    await stack.upstream.ledger.wait(open=0, timeout=30)

    async def all_ended() -> bool:
        return all(map(ended, (await logs(redis, begun)).values()))

    await until(all_ended, timeout=30, what="every accepted request has its end", interval=0.2)
    assert len(begun) == REQUESTS
    records: dict[str, list[Usage]] = {}
    for request_id, log in (await logs(redis, begun)).items():
        assert sum(name in events.TERMINAL for name, _ in log) == 1
        for name, data in log:
            if name == events.USAGE:
                usage = events.decode_usage(data)
                records.setdefault(f"{request_id}.{usage.call}", []).append(usage)
    assert not [call for call, kept in records.items() if len(kept) > 1], "each call has one record at the most"
    seen = Counter[str]()
    for call in stack.upstream.ledger:
        kept = records.get(call.id)
        if call.outcome == "finished" and call.usage is not None and kept and kept[0].complete:
            (usage,) = kept
            assert (usage.input_tokens, usage.output_tokens) == (
                call.usage["prompt_tokens"],
                call.usage["completion_tokens"],
            ), call.id
            seen["equal"] += 1
        elif kept:
            assert not kept[0].complete, call.id
            assert kept[0].output_tokens is None or kept[0].output_tokens <= call.tokens
            seen[f"incomplete, {kept[0].outcome}"] += 1
        else:
            seen["died with its worker before its first token left"] += 1
    assert seen["equal"] > 100, seen
    assert seen["incomplete, cancelled"] > 40, seen
    counted = await read(redis, [today()])
    complete = [usage for kept in records.values() for usage in kept if usage.complete]
    assert sum(totals.output for totals in counted.values()) == sum(usage.output_tokens or 0 for usage in complete)
    assert sum(totals.calls for totals in counted.values()) == len(records)
    print(json.dumps(dict(seen)))
