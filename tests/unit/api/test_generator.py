"""`stream_async(generator=…)`: an application's own tokens, under the output rails and without a model."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from railstream import CallError, StreamingNotSupportedError
from railstream.testing import Upstream

FORBIDDEN = (
    '{"error": {"message": "Blocked by terms check output rails.", "type": "guardrails_violation", '
    '"param": "terms check output", "code": "content_blocked"}}'
)


async def read(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


async def tokens(*given: Any) -> Any:
    for token in given:
        if isinstance(token, BaseException):
            raise token
        yield token


@pytest.mark.parametrize("guarded", [False, True])
async def test_a_generator_takes_the_place_of_the_model(
    build_rails: Any, ask: Any, terms: Any, upstream: Upstream, guarded: bool
) -> None:
    rails = build_rails(rails=terms if guarded else {})
    stream = rails.stream_async(messages=ask, generator=tokens("Hello", " ", {"text": "world"}, "!"))
    assert await read(stream) == ["Hello", " ", "world", "!"]
    assert len(upstream.ledger) == 0


async def test_output_rails_check_a_generator(build_rails: Any, ask: Any, terms: Any) -> None:
    rails = build_rails(rails=terms)
    stream = rails.stream_async(messages=ask, generator=tokens("It is ", "for", "bid", "den", "!"))
    assert await read(stream) == ["It is ", FORBIDDEN]


async def test_a_generator_needs_no_model_and_no_question(build_rails: Any, terms: Any) -> None:
    rails = build_rails(rails=terms, models=[])
    assert await read(rails.stream_async(generator=tokens("Hello"))) == ["Hello"]
    with pytest.raises(Exception, match="names no model of the type main"):
        rails.stream_async(prompt="Hello")


@pytest.mark.parametrize("guarded", [False, True])
async def test_a_generators_metadata_is_passed_on(build_rails: Any, terms: Any, guarded: bool) -> None:
    rails = build_rails(rails=terms if guarded else {})
    usage = {"usage_metadata": {"total_tokens": 1}}
    stream = rails.stream_async(generator=tokens("a", {"text": "b", "metadata": usage}), include_metadata=True)
    assert await read(stream) == [
        {"text": "a"},
        {"text": "b"},
        {"text": "", "metadata": {"response_metadata": None} | usage},
    ]


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("error", [KeyError("theirs"), CallError("theirs too", code="timeout")])
async def test_what_a_generator_raises_is_raised_after_its_text(
    build_rails: Any, terms: Any, guarded: bool, error: Exception
) -> None:
    rails = build_rails(rails=terms if guarded else {})
    stream = rails.stream_async(generator=tokens("Hello", " there", error))
    assert [await anext(stream), await anext(stream)] == ["Hello", " there"]
    with pytest.raises(type(error)) as raised:
        await anext(stream)
    assert raised.value is error


@pytest.mark.parametrize("guarded", [False, True])
async def test_leaving_closes_the_generator(build_rails: Any, terms: Any, guarded: bool) -> None:
    closed = asyncio.Event()

    async def endless() -> Any:
        try:
            while True:
                yield "word "
                await asyncio.sleep(0)
        finally:
            closed.set()

    async with aclosing(build_rails(rails=terms if guarded else {}).stream_async(generator=endless())) as stream:
        assert await anext(stream) == "word "
    assert closed.is_set()


async def test_a_block_closes_the_generator(build_rails: Any, terms: Any) -> None:
    closed = asyncio.Event()

    async def hanging() -> Any:
        try:
            yield "forbidden "
            await asyncio.Event().wait()
        finally:
            closed.set()

    assert await read(build_rails(rails=terms).stream_async(generator=hanging())) == [FORBIDDEN]
    assert closed.is_set()


async def test_a_generator_of_something_else_is_told_so(build_rails: Any) -> None:
    with pytest.raises(TypeError, match="must yield strings or dicts with a text, got int"):
        await read(build_rails().stream_async(generator=tokens(1)))


def test_output_rails_that_do_not_stream_are_refused_here_too(build_rails: Any, ask: Any, terms: Any) -> None:
    rails = build_rails(rails=terms | {"output": {"flows": ["terms check output"]}})
    with pytest.raises(StreamingNotSupportedError, match="generate_async"):
        rails.stream_async(messages=ask, generator=tokens())
