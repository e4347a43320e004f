"""Who breaks out of any iterator of an answer stays as he was, and the upstream is closed: nobody pays for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import pytest
from railstream import LLMRails, RailsConfig
from railstream.display import by_sentence, by_size, by_time, with_progress
from railstream.sessions import Builder, Session, flow_events, flow_stream, iModel, stream_turn
from railstream.testing import Script, Upstream

ASK = [{"role": "user", "content": "Say something."}]


def operations(session: Session) -> list[Any]:
    builder = Builder(session)
    builder.communicate("go", "testing")
    return builder.operations


Open = Callable[[Session, iModel], Any]
BARE: dict[str, Open] = {
    "invoke": lambda session, model: model.invoke(messages=ASK),
    "flow_stream": lambda session, model: flow_stream(operations(session)),
    "by_size": lambda session, model: by_size(model.invoke(messages=ASK), 5),
    "by_time": lambda session, model: by_time(model.invoke(messages=ASK), 0.01),
    "by_sentence": lambda session, model: by_sentence(model.invoke(messages=ASK)),
    "with_progress": lambda session, model: with_progress(model.invoke(messages=ASK), lambda count: None),
}
MANAGED: dict[str, Open] = {
    "stream": lambda session, model: model.stream(ASK),
    "stream_turn": lambda session, model: stream_turn(session, "main", "go", "testing"),
    "flow_events": lambda session, model: flow_events(operations(session)),
} | {name: lambda session, model, made=made: aclosing(aiter(made(session, model))) for name, made in BARE.items()}


async def left(answer: AsyncIterator[Any]) -> None:
    count = 0
    async for _ in answer:
        count += 1
        if count == 2:
            break


async def closed(upstream: Upstream) -> None:
    """The upstream was asked, and told to stop; the caller is not being cancelled."""
    await upstream.ledger.wait(ended=1, timeout=5)
    assert [entry.outcome for entry in upstream.ledger] == ["closed_by_client"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def serve(upstream: Upstream, leave: Callable[[Session, iModel], Any]) -> None:
    upstream.script = Script(text="One. Two. Three. " * 200, rate=200)
    model = iModel("openai", "testing", base_url=upstream.url, api_key="x", stream=True)
    async with Session() as session:
        session.services.register(model)
        session.create_branch("main")
        await leave(session, model)
        await closed(upstream)


@pytest.mark.parametrize("name", BARE)
async def test_a_bare_loop_that_is_left(upstream: Upstream, name: str) -> None:
    await serve(upstream, lambda session, model: left(BARE[name](session, model)))


@pytest.mark.parametrize("name", MANAGED)
async def test_a_block_that_is_left(upstream: Upstream, name: str) -> None:
    async def leave(session: Session, model: iModel) -> None:
        opened: AbstractAsyncContextManager[Any] = MANAGED[name](session, model)
        async with opened as answer:
            await left(answer)

    await serve(upstream, leave)


async def test_guarded_text_that_is_left(upstream: Upstream) -> None:
    upstream.script = Script(words=500, rate=200)
    parameters = {"base_url": upstream.url, "api_key": "testing"}
    model = {"type": "main", "engine": "openai", "model": "testing", "parameters": parameters}
    rails = LLMRails(RailsConfig.from_content(config={"models": [model]}))
    await left(rails.stream_async(messages=ASK))
    await closed(upstream)
    await rails.aclose()
