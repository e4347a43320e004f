"""docs/redis.md held against real traffic: what is written fits the schemas, and the page's reader reads it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis as blocking
from faststream.redis.parser import BinaryMessageFormatV1
from harness.schemas import SCHEMAS, validators
from harness.sse import fetch, opened
from harness.stack import MODEL, Stack, model
from harness.waiting import until
from railstream import keys
from railstream.testing import Script, directive
from redis.asyncio import Redis

PAGE = (SCHEMAS.parent / "redis.md").read_text(encoding="utf-8")
PATTERNS = {"regex_detection": {"output": {"patterns": ["forbidden"]}, "input": {"patterns": ["never"]}}}
RAILS = {
    "input": {"flows": ["regex check input"]},
    "output": {"flows": ["regex check output"], "streaming": {"enabled": True}},
    "config": PATTERNS,
}
CONFIGS: dict[str, Any] = {
    "plain": {"railstream": {"on_worker_loss": "regenerate"}},
    "guarded": {"models": [model("", model="gamma", parameters={})], "rails": RAILS},
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALLS = [{"name": "weather", "arguments": '{"city": "Bern"}', "id": "call_1"}]
QUICK = {"RAILSTREAM_LEASE": "2", "RAILSTREAM_SCAN": "0.2"}


class Traffic:
    """All that was written: jobs and live messages as they came, streams and hashes as they stand."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.jobs: list[Any] = []
        self.live: dict[str, list[tuple[bytes, bytes, bytes, bytes]]] = {}
        self.hashes: list[dict[str, str]] = []

    async def watch_jobs(self) -> None:
        last = "0-0"
        while True:
            for _, entries in await self._redis.xread({keys.jobs(): last}, block=1000) or ():
                for entry, fields in entries:
                    last = entry.decode()
                    body, _ = BinaryMessageFormatV1.parse(fields[b"__data__"])
                    self.jobs.append(json.loads(body))

    async def listen(self, ready: asyncio.Event) -> None:
        async with self._redis.pubsub() as channels:
            await channels.psubscribe("railstream:*:live:*")
            ready.set()
            async for message in channels.listen():
                if message["type"] != "pmessage":
                    continue
                head, _, rest = message["data"].partition(b"\n")
                entry, event, size = head.split(b" ")
                id = message["channel"].decode().rpartition(":")[2]
                choice, data = rest[: int(size)], rest[int(size) :]
                self.live.setdefault(id, []).append((entry, event, choice, data))
                self.hashes.append(await self.hash(id))

    async def hash(self, id: str) -> dict[str, str]:
        fields: Any = await self._redis.hgetall(keys.request(id))
        return {name.decode(): value.decode() for name, value in fields.items()}

    async def stream(self, id: str) -> list[tuple[bytes, bytes, bytes, bytes]]:
        entries: Any = await self._redis.xrange(keys.events(id))
        return [(entry, e[b"event"], e.get(b"choice", b""), e[b"data"]) for entry, e in entries]


@asynccontextmanager
async def watched(redis: Redis) -> AsyncGenerator[Traffic, None]:
    traffic, ready = Traffic(redis), asyncio.Event()
    tasks = [asyncio.create_task(traffic.watch_jobs()), asyncio.create_task(traffic.listen(ready))]
    await ready.wait()
    try:
        yield traffic
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def stack(start_stack: Any) -> Stack:
    made: Stack = await start_stack(workers=2, configs=CONFIGS, script=Script(words=6), environment=QUICK)
    return made


async def asked(stack: Stack, content: str, **given: Any) -> str:
    async with stack.ask(content, **given) as stream:
        await stream.read()
    return str(stream.request_id)


async def cancelled(stack: Stack) -> str:
    async with stack.ask(directive(words=500, rate=20)) as stream:
        await stream.read(frames=3)
        await stack.cancel(stream.request_id)
        await stream.read()
    return str(stream.request_id)


async def taken_over(stack: Stack, redis: Redis) -> str:
    async with stack.ask(directive(words=60, rate=30)) as stream:
        await stream.read(frames=5)
        owner = await redis.hget(keys.request(stream.request_id), "owner")
        assert owner is not None
        worker = next(each for each in stack.workers if str(each.pid).encode() in owner)
        await worker.kill()
        await stream.read()
    return str(stream.request_id)


async def a_flow(stack: Stack) -> str:
    # The second operation fails, and the third needs it.
    operations = [
        {"id": "a", "instruction": directive(words=4), "model": MODEL},
        {"id": "b", "instruction": directive(fault="reset", at=1), "model": MODEL, "context_from": ["a"]},
        {"id": "c", "instruction": "Go on.", "model": MODEL, "context_from": ["b"]},
    ]
    async with opened(f"{stack.url}/v1/flows", body={"operations": operations, "stream": True}) as stream:
        await stream.read()
    return str(stream.request_id)


async def in_a_session(stack: Stack) -> str:
    _, session = await fetch(f"{stack.url}/v1/sessions", body={})
    return await asked(stack, "Hello.", railstream={"session": session["id"], "branch": "main"})


async def checked(stack: Stack) -> None:
    body = {"messages": [{"role": "user", "content": "Say never."}], "guardrails": {"config_id": "guarded"}}
    assert (await fetch(f"{stack.url}/v1/checks", body=body))[0] == 200


async def all_kinds(stack: Stack, redis: Redis) -> dict[str, str]:
    """A request of each kind; its id by what its stream ends with."""
    guarded = {"guardrails": {"config_id": "guarded"}, "model": "gamma"}
    usage = {"stream_options": {"include_usage": True}}
    ids = {
        "chat": await asked(stack, directive(words=9), **usage),
        "tools": await asked(stack, directive(tool_calls=CALLS), tools=[TOOL]),
        "choices": await asked(stack, directive(words=4, logprobs=True), n=2, logprobs=True),
        "reasoning": await asked(stack, directive(words=4, reasoning=3)),
        "blocked": await asked(stack, directive(text="this is forbidden here"), **guarded),
        "blocked at input": await asked(stack, "never", **guarded),
        "failed": await asked(stack, directive(fault="error_before", status=400)),
        "cut": await asked(stack, directive(fault="reset", at=2)),
        "cancelled": await cancelled(stack),
        "flow": await a_flow(stack),
        "models": await asked(stack, "Hello.", model=None, railstream={"models": [MODEL, "gamma"]}),
        "session": await in_a_session(stack),
        "taken over": await taken_over(stack, redis),
    }
    await checked(stack)
    return ids


async def test_real_traffic_fits_the_schemas_and_meets_every_event(stack: Stack, redis: Redis) -> None:
    schemas, seen = validators(), set[str]()
    async with watched(redis) as traffic:
        ids = await all_kinds(stack, redis)
        await until(lambda: len(traffic.live) == len(ids) + 1 and all(_ended(e) for e in traffic.live.values()))
        for id, heard in traffic.live.items():
            stored = await traffic.stream(id)
            assert heard == stored, "the channel carries what the stream holds"
            for _, event, choice, data in stored:
                seen.add(event.decode())
                schemas[f"event-{event.decode()}.json"].validate(json.loads(data))
                if choice:
                    schemas["choice.json"].validate(json.loads(choice))
        for fields in [*traffic.hashes, *[await traffic.hash(id) for id in traffic.live]]:
            schemas["request.json"].validate(fields)
        for job in traffic.jobs:
            schemas["job.json"].validate(job)
    assert seen == {path.stem.removeprefix("event-") for path in SCHEMAS.glob("event-*.json")}
    assert {job["id"] for job in traffic.jobs} == set(traffic.live)
    assert {job.get("kind", "chat") for job in traffic.jobs} == {"chat", "checks", "flow"}


def _ended(entries: list[tuple[bytes, bytes, bytes, bytes]]) -> bool:
    return entries[-1][1] in {b"finished", b"blocked", b"failed", b"cancelled"}


def reader_of_the_page() -> dict[str, Any]:
    """What the page's Python defines."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/redis.md", "exec"), names)
    return names


async def test_the_reader_on_the_page_reads_what_the_gateway_shows(stack: Stack, redis: Redis, redis_url: str) -> None:
    page = reader_of_the_page()
    async with stack.ask(directive(words=40, rate=80), model=MODEL) as stream:
        with blocking.Redis.from_url(redis_url, decode_responses=True) as client:
            reading = asyncio.create_task(asyncio.to_thread(page["text"], client, stream.request_id))
            await stream.read()
            assert await reading == stream.text
            survived = await taken_over(stack, redis)
            text = await asyncio.to_thread(page["text"], client, survived)
    async with stack.resume(survived) as again:
        await again.read()
    assert text == again.text == "".join(Script(words=60).says())


async def test_the_reader_on_the_page_finds_a_hole_and_an_unknown_stream(redis: Redis, redis_url: str) -> None:
    page = reader_of_the_page()
    id = "chatcmpl-" + "0" * 30 + "9f"
    for entry, event, data in (
        ("1-0", "started", {}),
        ("1-1", "chunk", {"content": "a"}),
        ("2-0", "restarted", {"attempt": 2, "after": "1-7", "reason": "lease_expired"}),
    ):
        await redis.xadd(keys.events(id), {"event": event, "data": json.dumps(data)}, id=entry)
    with blocking.Redis.from_url(redis_url, decode_responses=True) as client:
        with pytest.raises(page["Lost"], match="2-0 does not follow 1-1"):
            await asyncio.to_thread(page["text"], client, id)
        with pytest.raises(page["Lost"], match="unknown here"):
            await asyncio.to_thread(page["text"], client, id[:-2] + "aa")
