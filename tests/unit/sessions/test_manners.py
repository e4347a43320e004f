"""Ways to show an answer: no character is lost or added, what is held comes out at an error, leaving closes."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from railstream.display import by_sentence, by_size, by_time, collected, to_file, with_progress
from railstream.errors import CallError

TEXT = 'He said "Stop." Then: pi is 3.14, e.g. so! New\nline? 好。Yes'


class Answer:
    """Pieces of a text; ``closed`` once it is left."""

    def __init__(self, *pieces: str, error: bool = False, pause: asyncio.Event | None = None) -> None:
        self.pieces, self.error, self.pause, self.closed = pieces, error, pause, False

    async def stream(self) -> AsyncGenerator[str, None]:
        try:
            for piece in self.pieces:
                yield piece
            if self.pause is not None:
                await self.pause.wait()
            if self.error:
                raise CallError("cut", code="truncated")
        finally:
            self.closed = True


async def all_of(texts: AsyncGenerator[str, None]) -> list[str]:
    return [text async for text in texts]


async def test_sentences_come_whole_and_a_number_is_not_cut() -> None:
    answer = Answer(*TEXT)
    sentences = await all_of(by_sentence(answer.stream()))
    assert sentences == ['He said "Stop." ', "Then: pi is 3.14, e.g. ", "so! ", "New\n", "line? ", "好。", "Yes"]


@given(st.lists(st.text(max_size=8), max_size=20), st.integers(1, 10))
def test_no_character_is_lost_or_added(pieces: list[str], size: int) -> None:
    async def shown() -> list[str]:
        made: list[Callable[[], AsyncGenerator[str, None]]] = [
            lambda: by_size(Answer(*pieces).stream(), size),
            lambda: by_sentence(Answer(*pieces).stream()),
            lambda: by_time(Answer(*pieces).stream(), 0),
            lambda: with_progress(Answer(*pieces).stream(), lambda _: None),
        ]
        return ["".join(await all_of(make())) for make in made]

    assert asyncio.run(shown()) == ["".join(pieces)] * 4


async def test_texts_are_gathered_by_size() -> None:
    assert await all_of(by_size(Answer(*"abcdefg").stream(), 3)) == ["abc", "def", "g"]


async def test_what_is_held_comes_out_in_time_however_slow_the_rest_is() -> None:
    answer = Answer("a", "b", pause=asyncio.Event())
    async with aclosing(by_time(answer.stream(), 0.05)) as texts:
        assert await anext(texts) == "ab"
    assert answer.closed


@pytest.mark.parametrize("make", [lambda s: by_size(s, 100), by_sentence, lambda s: by_time(s, 100)])
async def test_what_is_held_comes_out_before_an_error(
    make: Callable[[AsyncGenerator[str, None]], AsyncGenerator[str, None]],
) -> None:
    result = await collected(make(Answer("a", "b", error=True).stream()))
    assert result.text == "ab"
    assert result.error is not None


@pytest.mark.parametrize("make", [lambda s: by_size(s, 1), lambda s: by_time(s, 0), lambda s: with_progress(s, print)])
async def test_leaving_early_closes_the_answer(
    make: Callable[[AsyncGenerator[str, None]], AsyncGenerator[str, None]],
) -> None:
    answer = Answer("a", "b", "c")
    async with aclosing(make(answer.stream())) as texts:
        async for _ in texts:
            break
    assert answer.closed


async def test_progress_is_told_at_every_tenth_and_at_the_end() -> None:
    told: list[int] = []
    await all_of(with_progress(Answer(*"x" * 25).stream(), told.append))
    assert told == [10, 20, 25]


async def test_a_file_has_each_text_at_once_and_keeps_what_came_before_an_error(tmp_path: Path) -> None:
    path = tmp_path / "answer.txt"
    seen = []

    async def watched() -> AsyncGenerator[str, None]:
        for piece in ("one ", "two"):
            yield piece
            seen.append(path.read_text("utf-8"))
        raise CallError("cut", code="truncated")

    with pytest.raises(CallError):
        await to_file(watched(), path)
    assert seen == ["one ", "one two"]
    assert path.read_text("utf-8") == "one two"
    assert await to_file(Answer("a", "b").stream(), io.StringIO()) == 2


async def test_partial_text_and_its_error_are_collected() -> None:
    said: list[str] = []
    result = await collected(Answer("a", "b", error=True).stream(), said.append)
    assert (result.text, said) == ("ab", ["a", "b"])
    assert result.error is not None
    assert result.error.code == "truncated"
    assert (await collected(Answer("a").stream())).error is None
