"""A reader that is handed parts as they arrive: it gets what the stream would have given it, once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
from contract.llm_rig import asked, model_on
from railstream import CallError
from railstream.testing import Script, Upstream
from railstream_engine.providers.port import Call, ChatModel, Delta, Finish, Part


class Reader:
    """Reads a stream as a generation does: ready while it waits, but for every ``rests``-th part."""

    def __init__(self, rests: int = 0, fails_at: int = 0) -> None:
        self.deltas: list[str] = []
        self.taken = 0
        self.finishes = 0
        self._rests = rests
        self._fails_at = fails_at
        self._waits = False

    def ready(self) -> bool:
        return self._waits and not (self._rests and len(self.deltas) % self._rests == 0)

    def take(self, parts: Sequence[Part]) -> None:
        self.taken += 1
        if self.taken == self._fails_at:
            raise ZeroDivisionError
        self._hear(parts)

    def _hear(self, parts: Sequence[Part]) -> None:
        self.deltas += [part.content for part in parts if isinstance(part, Delta)]
        self.finishes += sum(isinstance(part, Finish) for part in parts)

    async def read(self, model: ChatModel, call: Call) -> None:
        async with aclosing(model.stream(msgspec.structs.replace(call, taker=self))) as stream:
            self._waits = True
            async for parts in stream:
                self._waits = False
                self._hear(parts)
                await asyncio.sleep(0)
                self._waits = True


def said(words: int, **script: Any) -> list[str]:
    return list(Script(words=words, **script).says())


@pytest.mark.parametrize("rests", [0, 2, 3])
@pytest.mark.parametrize("rate", [0, 400])
async def test_every_delta_comes_once_and_in_order(upstream: Upstream, rests: int, rate: int) -> None:
    reader = Reader(rests)
    await reader.read(model_on(upstream, "openai"), asked(words=40, rate=rate))
    assert reader.deltas == said(40)
    assert reader.finishes == 1
    assert reader.taken or not rate or rests == 1


async def test_a_connection_is_used_again_after_an_answer_that_was_taken(upstream: Upstream) -> None:
    model = model_on(upstream, "openai")
    for _ in range(3):
        await Reader().read(model, asked(words=5, rate=200))
    assert len(upstream._connections) == 1


@pytest.mark.parametrize("fault", ["early_end", "reset", "error_during", "bad_json"])
async def test_a_failure_after_parts_were_taken_has_the_text_so_far(upstream: Upstream, fault: str) -> None:
    reader = Reader()
    with pytest.raises(CallError) as caught:
        await reader.read(model_on(upstream, "openai"), asked(words=20, rate=200, fault=fault, at=8))
    assert reader.taken
    assert reader.deltas == said(20)[:8]
    assert caught.value.partial == "".join(reader.deltas)


async def test_silence_is_noticed_after_parts_were_taken(upstream: Upstream) -> None:
    model = model_on(upstream, "openai", first_token_timeout=1, chunk_timeout=1)
    reader = Reader()
    with pytest.raises(CallError) as caught:
        await reader.read(model, asked(words=20, rate=200, fault="hang", at=8))
    assert (caught.value.code, len(reader.deltas)) == ("timeout", 8)


async def test_what_goes_wrong_in_a_reader_ends_its_stream(upstream: Upstream) -> None:
    with pytest.raises(ZeroDivisionError):
        await Reader(fails_at=3).read(model_on(upstream, "openai"), asked(words=20, rate=200))


async def test_a_booked_model_counts_the_tokens_that_its_reader_took(upstream: Upstream) -> None:
    model, reader = model_on(upstream, "openai", tokens_per_minute=100_000), Reader()
    await reader.read(model, asked(words=20, rate=200))
    assert reader.deltas == said(20)
    assert reader.taken
