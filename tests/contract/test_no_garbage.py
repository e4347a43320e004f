"""Nothing of a request waits for a garbage collection, however it ends: one that is full stops all streams at once."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from contract.gateway_rig import Served, serving
from harness.sse import opened
from harness.stack import MODEL, model, write_configs
from harness.waiting import until
from railstream import heap, keys
from railstream.config import ConfigSet
from railstream.settings import GatewaySettings, WorkerSettings
from railstream.testing import Upstream, directive
from railstream_worker.app import create_worker
from redis.asyncio import Redis

STREAMING = {"enabled": True, "chunk_size": 10, "context_size": 2, "stream_first": False}
JUDGED = {"flows": ["self check output"], "streaming": STREAMING}
CONFIGS: dict[str, Any] = {
    "regex": {
        "rails": {
            "output": {"flows": ["regex check output"], "streaming": STREAMING},
            "config": {"regex_detection": {"output": {"patterns": ["forbidden"]}}},
        }
    },
    "judged": {
        "rails": {"input": {"flows": ["self check input"]}, "output": JUDGED},
        "prompts": [
            {"task": "self_check_input", "content": "Is this bad? {{ user_input }} " + directive(text="no")},
            {"task": "self_check_output", "content": "Is this bad? {{ bot_response }} " + directive(text="no")},
        ],
    },
}
PATIENCE = 8
"""Seconds: no outage is looked at here, and a busy machine may hold Redis back for a while."""
UPSTREAM = "railstream.testing."
"""It serves in this process too, and is none of what is looked at."""
WAYS: dict[str, dict[str, Any]] = {
    "streamed": {"content": directive(words=30)},
    "whole": {"content": directive(words=30), "stream": False},
    "blocked": {"content": directive(text="this is forbidden, as all know")},
    "judged": {"content": directive(words=30), "guardrails": {"config_id": "judged"}},
    "failed": {"content": directive(words=30, fault="error_before", status=400), "refused": 400},
    "truncated": {"content": directive(words=30, fault="early_end", at=5)},
    "several models": {"content": directive(words=30), "railstream": {"models": [MODEL, "other"]}},
    "left": {"content": directive(words=1000, rate=50)},
}


@asynccontextmanager
async def both_sides(redis_url: str, upstream: Upstream, directory: Path) -> AsyncGenerator[Served, None]:
    """A gateway and a worker in this process, so that it can be seen what they leave behind."""
    url = upstream.url
    given = {id: {"models": [model(url), model(url, model="other")]} | config for id, config in CONFIGS.items()}
    configs = ConfigSet.load(write_configs(directory, url, given), default="regex")
    worker = create_worker(WorkerSettings(redis_url=redis_url, drain_timeout=2), configs=configs)
    running = asyncio.create_task(worker.run())
    try:
        async with serving(GatewaySettings(redis_url=redis_url, port=0, redis_timeout=PATIENCE), configs) as served:
            yield served
    finally:
        worker.exit()
        await running


async def ask(served: Served, way: str) -> None:
    given = WAYS[way]
    body = {"stream": True} | {name: value for name, value in given.items() if name not in ("content", "refused")}
    body["messages"] = [{"role": "user", "content": given["content"]}]
    async with opened(served.completions, body=body) as stream:
        refused = given.get("refused", 200)  # before the first token a failure has its own status
        assert stream.status == refused, await stream.body()
        if way == "left":
            await stream.read(frames=5)
            stream.reset()
        elif body["stream"]:
            await stream.read()
        else:
            await stream.body()


@contextmanager
def uncollected() -> Iterator[Counter[str]]:
    """Counts, at its end, the objects of ours that only a collection would have freed."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = (f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.garbage)
        found.update(kind for kind in kinds if kind.startswith("railstream") and not kind.startswith(UPSTREAM))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def quiet(served: Served, redis: Redis) -> None:
    """Nothing runs, and what the last request did has been forgotten."""

    async def idle() -> bool:
        pending: Any = await redis.xpending(keys.jobs(), keys.GROUP)
        return not pending["pending"] and not len(served.gateway.open_streams)

    await until(idle, what="no request runs")
    await asyncio.sleep(0.2)


@pytest.mark.parametrize("way", WAYS)
async def test_a_request_that_has_ended_is_freed(
    way: str, redis: Redis, redis_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    async with both_sides(redis_url, upstream, tmp_path) as served:
        for _ in range(2):  # what is made once and kept; connections above all, of which redis-py leaves a knot each
            await asyncio.gather(*(ask(served, way) for _ in range(8)))
        await quiet(served, redis)
        with uncollected() as found:
            for _ in range(5):
                await ask(served, way)
            await quiet(served, redis)
        assert not found, found


class Knot:
    """Only a collection frees it."""

    def __init__(self) -> None:
        self.self = self


async def test_what_others_leave_behind_is_collected_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "EVERY", 0.1)
    thresholds = gc.get_threshold()
    try:
        await heap.collect_rarely()
        gc.disable()  # or a young one, at its next chance, would free it
        for _ in range(2):  # the second one is made after a collection
            knot = weakref.ref(Knot())
            await until(lambda: knot() is None, what="it is collected")  # noqa: B023
    finally:
        gc.enable()
        gc.set_threshold(*thresholds)
        gc.unfreeze()
