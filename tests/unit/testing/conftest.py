"""The upstream's own tests ask it with the `openai` SDK, as its users will."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk
from railstream.testing import Upstream, directive

Body = dict[str, Any]


def asking(**script: Any) -> list[Any]:
    """Messages that carry a script, as any gateway would pass them on."""
    return [{"role": "user", "content": f"Please. {directive(**script)} Thank you."}]


@pytest.fixture
async def sdk(upstream: Upstream) -> AsyncGenerator[AsyncOpenAI, None]:
    async with AsyncOpenAI(base_url=upstream.url, api_key="any", max_retries=0, timeout=5) as client:
        yield client


@pytest.fixture
def open_stream(sdk: AsyncOpenAI) -> Callable[..., Any]:
    """``await open_stream(words=3)``: the SDK's stream of an answer to a directive; use it in an ``async with``."""

    async def start(request: Body | None = None, **script: Any) -> Any:
        given: Body = {"model": "any", "messages": asking(**script), "stream": True} | (request or {})
        stream: Any = await sdk.chat.completions.create(**given)
        return stream

    return start


@pytest.fixture
def chunks_of(open_stream: Callable[..., Any]) -> Callable[..., Any]:
    """``await chunks_of(words=3)``: chunks of the whole stream."""

    async def collect(request: Body | None = None, **script: Any) -> list[ChatCompletionChunk]:
        async with await open_stream(request, **script) as stream:
            return [chunk async for chunk in stream]

    return collect
