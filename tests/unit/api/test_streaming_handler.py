"""`StreamingHandler`: what is pushed in comes out without prefix, suffix and stop, and it always ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from railstream import StreamingHandler
from railstream_engine.api import END_OF_STREAM
from railstream_engine.api.pattern import Pattern


async def read(handler: StreamingHandler) -> list[Any]:
    async with asyncio.timeout(5):
        return [element async for element in handler]


async def push(handler: StreamingHandler, *chunks: str) -> None:
    for chunk in chunks:
        await handler.push_chunk(chunk)


async def test_chunks_come_out_as_they_went_in() -> None:
    handler = StreamingHandler()
    await push(handler, "Hello", "", " world")
    await handler.finish()
    assert await read(handler) == ["Hello", "", " world"]
    assert await handler.wait() == handler.completion == "Hello world"
    assert handler.streaming_finished_event.is_set()


@pytest.mark.parametrize("end", [None, END_OF_STREAM])
async def test_none_and_the_end_marker_end_it_and_what_follows_is_ignored(end: Any) -> None:
    handler = StreamingHandler()
    await push(handler, "a")
    await handler.push_chunk(end)
    await push(handler, "b")
    await handler.finish()
    assert await read(handler) == ["a"]
    assert await read(handler) == [], "asking again ends again"


async def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="expects str, got dict"):
        await StreamingHandler().push_chunk({"text": "a"})  # type: ignore[arg-type]


async def test_prefix_and_suffix_are_taken_off() -> None:
    handler = StreamingHandler()
    handler.set_pattern(prefix='Bot message: "', suffix='"')
    await push(handler, "Bot ", 'message: "', "He", 'said "hi" to me', '"')
    await handler.finish()
    assert "".join(await read(handler)) == 'Hesaid "hi" to me'


@pytest.mark.parametrize("by_marker", [True, False])
async def test_a_prefix_that_never_comes_neither_keeps_the_text_nor_the_end(by_marker: bool) -> None:
    handler = StreamingHandler()
    handler.set_pattern(prefix="User intent: ")
    await push(handler, "User in")
    await (handler.push_chunk(END_OF_STREAM) if by_marker else handler.finish())
    assert await read(handler) == ["User in"]


async def test_a_text_that_can_no_longer_have_the_prefix_flows_at_once() -> None:
    handler = StreamingHandler()
    handler.set_pattern(prefix="User intent: ")
    await push(handler, "User", " asks", " now")
    assert handler.completion == "User asks now"


async def test_a_stop_string_in_the_first_chunk_ends_it() -> None:
    handler = StreamingHandler()
    handler.stop = ["\nUser"]
    await push(handler, "Hello\nUser: and", "more")
    assert await read(handler) == ["Hello"]


async def test_a_stop_string_over_chunks_is_cut_off_and_nothing_is_counted_twice() -> None:
    handler = StreamingHandler()
    handler.stop = ["STOP"]
    await push(handler, "Hello wor", "ld ST", "OP never")
    assert "".join(await read(handler)) == "Hello world "
    assert await handler.wait() == "Hello world "


async def test_a_chunk_that_may_begin_a_stop_string_is_merged_with_the_next() -> None:
    handler = StreamingHandler()
    handler.stop = ["User:"]
    await push(handler, "in the", " U", "SA", "!")
    await handler.finish()
    assert await read(handler) == ["in the", " USA", "!"]


async def test_metadata_comes_with_its_chunk_and_all_of_it_at_the_end() -> None:
    handler = StreamingHandler(include_metadata=True)
    handler.set_pattern(prefix="> ")
    await handler.push_chunk("> He", {"provider": "a"})
    await handler.push_chunk("llo")
    await handler.push_chunk(None, {"usage_metadata": {"total_tokens": 3}})
    assert await read(handler) == [
        {"text": "He", "metadata": {"provider": "a"}},
        {"text": "llo"},
        {
            "text": "",
            "metadata": {"response_metadata": None, "usage_metadata": {"total_tokens": 3}, "provider": "a"},
        },
    ]


async def test_the_old_name_of_include_metadata_is_taken_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="use include_metadata"):
        handler = StreamingHandler(include_generation_metadata=True)
    assert handler.include_metadata


async def test_a_pipe_keeps_the_order_and_the_end_and_the_source_ends_too() -> None:
    source, target = StreamingHandler(), StreamingHandler()
    source.set_pipe_to(target)
    words = [f"{number} " for number in range(100)]
    await push(source, *words)
    await source.finish()
    assert await read(target) == words
    assert await read(source) == []
    assert await source.wait() == await target.wait() == "".join(words)


async def test_a_buffer_gathers_and_goes_on_as_one_chunk() -> None:
    handler = StreamingHandler(enable_buffer=True)
    await push(handler, "a", "b", "c")
    assert (handler.buffer, handler.completion) == ("abc", "")
    await handler.disable_buffering()
    await push(handler, "d")
    await handler.enable_buffering()
    await push(handler, "e")
    await handler.disable_buffering()
    await handler.finish()
    assert await read(handler) == ["abc", "d", "e"]


async def test_an_end_while_buffering_keeps_the_text_for_the_flush() -> None:
    handler = StreamingHandler(enable_buffer=True)
    await push(handler, "a", "b")
    await handler.finish()
    assert await handler.wait() == "ab"
    await handler.disable_buffering()
    assert await read(handler) == ["ab"]
    assert await handler.wait() == "ab"


async def test_the_pattern_that_is_set_while_buffering_counts_at_the_flush() -> None:
    handler = StreamingHandler(enable_buffer=True)
    await push(handler, "express greeting\n", 'bot: "Hi')
    assert await handler.wait_top_k_nonempty_lines(1) == "express greeting"
    handler.set_pattern(prefix='bot: "', suffix='"')
    await handler.disable_buffering()
    await push(handler, " there", '"')
    await handler.finish()
    assert await read(handler) == ["Hi", " there"]


async def test_the_top_lines_are_waited_for_and_leave_the_buffer() -> None:
    handler = StreamingHandler(enable_buffer=True)
    waiting = asyncio.create_task(handler.wait_top_k_nonempty_lines(2))
    await push(handler, "# a comment\n", "\n", "one\n", "two")
    await asyncio.sleep(0)
    assert not waiting.done(), "the second line may still go on"
    await push(handler, " and a half\nthree")
    assert await waiting == "one\ntwo and a half"
    assert handler.buffer == "three"


async def test_the_top_lines_that_are_there_already_are_not_waited_for() -> None:
    handler = StreamingHandler(enable_buffer=True)
    await push(handler, "one\ntwo\nthree\nfour")
    assert await handler.wait_top_k_nonempty_lines(1) == "one"
    assert await handler.wait_top_k_nonempty_lines(1) == "two"
    await handler.finish()
    assert await handler.wait_top_k_nonempty_lines(5) == "three\nfour"


async def test_printing_shows_what_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    handler = StreamingHandler(enable_print=True)
    handler.set_pattern(suffix='"')
    await push(handler, "Hi", '"')
    await handler.finish()
    assert capsys.readouterr().out == "\033[92mHi\033[0m\n"


def whole(text: str, prefix: str, suffix: str, stops: list[str]) -> str:
    """The oracle: the pattern of a complete text."""
    text = text.removeprefix(prefix)
    ends = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(ends)[1] if ends else len(text)].removesuffix(suffix)


SHORT = st.text("ab", max_size=3)


@given(st.lists(SHORT, max_size=12), SHORT, SHORT, st.lists(st.text("ab", min_size=1, max_size=3), max_size=2))
def test_however_a_text_is_chunked_its_pattern_is_that_of_the_whole(
    chunks: list[str], prefix: str, suffix: str, stops: list[str]
) -> None:
    pattern = Pattern()
    pattern.prefix, pattern.suffix, pattern.stop = prefix, suffix, stops
    released, stopped = "", False
    for chunk in chunks:
        if not stopped:
            text, stopped = pattern.feed(chunk)
            released += text or ""
    assert released + pattern.flush() == whole("".join(chunks), prefix, suffix, stops)
