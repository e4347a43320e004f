"""Calls that are left before their end: nothing of such an answer may ever be heard by another call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import openai
import pytest
from contract.llm_rig import asked, listen
from railstream.testing import Script, Upstream
from railstream_engine.providers.endpoint import Endpoint
from railstream_engine.providers.openai.model import OpenAIModel
from railstream_engine.providers.port import ChatModel


@pytest.fixture(params=["the worker's own client", "the SDK's own client"])
async def model(request: pytest.FixtureRequest, upstream: Upstream) -> AsyncGenerator[ChatModel, None]:
    endpoint = Endpoint(model="m-1", base_url=upstream.url, api_key="testing")
    client = None
    if request.param != "the worker's own client":
        kind = openai.DefaultAsyncHttpxClient
        client = openai.AsyncOpenAI(base_url=upstream.url, api_key="testing", max_retries=0, http_client=kind())
    made = OpenAIModel(endpoint, client)
    yield made
    await made.aclose()


@pytest.mark.parametrize("rate", [0, 500])
@pytest.mark.parametrize("wait", [0, 0.05], ids=["at once", "once all has come"])
async def test_what_an_abandoned_call_had_not_read_is_never_heard_by_the_next_one(
    model: ChatModel, upstream: Upstream, rate: int, wait: float
) -> None:
    for number in range(8):
        async with aclosing(model.stream(asked(words=40, seed=f"left {number}", rate=rate))) as left:
            async for _ in left:
                break
            await asyncio.sleep(wait)  # the rest of the answer arrives, and nobody reads it
        heard = await listen(model, asked(words=30, seed=f"heard {number}"))
        assert heard.error is None
        assert heard.text == "".join(Script(words=30, seed=f"heard {number}").says())


@pytest.mark.parametrize("wait", [0, 0.05], ids=["at once", "once all has come"])
async def test_what_a_cancelled_call_had_not_read_is_never_heard_by_the_next_one(
    model: ChatModel, upstream: Upstream, wait: float
) -> None:
    """As the worker does it when its claim is lost or somebody cancels: the task is cancelled wherever it stands."""
    for number in range(8):
        task = asyncio.create_task(listen(model, asked(words=200, seed=f"left {number}", rate=4000)))
        await upstream.ledger.wait(calls=2 * number + 1)
        await asyncio.sleep(wait)
        task.cancel()
        await asyncio.wait((task,))
        heard = await listen(model, asked(words=30, seed=f"heard {number}"))
        assert heard.text == "".join(Script(words=30, seed=f"heard {number}").says())
