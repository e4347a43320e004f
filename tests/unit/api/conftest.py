"""Rails in this process, around the testing upstream: what was said and what was closed stands in its ledger."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from railstream import LLMRails, RailsConfig
from railstream.testing import Script, Upstream

ASK = [{"role": "user", "content": "Say something."}]
TERMS: dict[str, Any] = {
    "config": {"terms": {"input": {"terms": ["forbidden"]}, "output": {"terms": ["forbidden"]}}},
    "input": {"flows": ["terms check input"]},
    "output": {"flows": ["terms check output"], "streaming": {"enabled": True}},
}
JUDGED: dict[str, Any] = {
    "rails": {
        "output": {
            "flows": ["self check output"],
            "streaming": {"enabled": True, "chunk_size": 4, "context_size": 2},
        }
    },
    "prompts": [{"task": "self_check_output", "content": "Is this bad? {{ bot_response }}"}],
}
BuildRails = Callable[..., LLMRails]


def config_of(upstream: Upstream, **given: Any) -> RailsConfig:
    """A config whose models are served by the upstream; a model of another type is named after it."""
    parameters = {"base_url": upstream.url, "api_key": "testing", "max_retries": 0}
    names: Mapping[str, str] = {"main": "testing"} | given.pop("judges", {})
    models = [
        {"type": kind, "engine": "openai", "model": name, "parameters": parameters} for kind, name in names.items()
    ]
    return RailsConfig.from_content(config={"models": models, "passthrough": True} | given)


@pytest.fixture
async def build_rails(upstream: Upstream) -> AsyncGenerator[BuildRails, None]:
    """``build_rails(deltas=[…], rails={…}, …)``: the script of the upstream, and the rest of the config."""
    async with AsyncExitStack() as built:

        def build(script: Script | None = None, deltas: list[str] | None = None, **given: Any) -> LLMRails:
            if deltas is not None:
                script = Script(deltas=tuple(deltas))
            upstream.script = script or upstream.script
            rails = LLMRails(config_of(upstream, **given))
            built.push_async_callback(rails.aclose)
            return rails

        yield build


@pytest.fixture
def ask() -> list[dict[str, str]]:
    return ASK


@pytest.fixture
def terms() -> dict[str, Any]:
    return TERMS


@pytest.fixture
def judged() -> dict[str, Any]:
    return JUDGED


@pytest.fixture
def upstream_url() -> Iterator[str]:
    """An upstream in a thread of its own, for tests that run event loops themselves. It says "Hello world"."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    serving = Upstream(Script(deltas=("Hello", " world")))
    asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(10)
    yield serving.url
    asyncio.run_coroutine_threadsafe(serving.aclose(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
