"""Judges over windows: what waits for them, what does not, and what a block cuts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness.examples import examples
from hypothesis import given
from hypothesis import strategies as st
from railstream_engine.rails.engine import FIRST_CHUNK
from railstream_engine.rails.port import OutputGuard
from unit.rails.guarding import Asked, Reader, chunkings, cut, engine, run, settle, turn

PROMPT = {"prompts": [{"task": "self_check_output", "content": "{{ bot_response }}|"}]}
FACTS = {"task": "self_check_facts", "content": "{{ evidence }}|{{ response }}"}


def judged(*, flows: tuple[str, ...] = ("self check output",), config: Any = None, **streaming: Any) -> Any:
    settings = {"enabled": True, "chunk_size": 4, "context_size": 2, "check_timeout": 5, **streaming}
    prompts = {"prompts": [*PROMPT["prompts"], FACTS]}
    return engine({"output": {"flows": list(flows), "streaming": settings}, "config": config or {}}, **prompts)


def open_guard(rails: Any, asked: Asked, **more: Any) -> tuple[OutputGuard, Reader]:
    reader = Reader()
    streaming = more.pop("streaming", True)
    guard = rails.guard(turn(asked, **more), reader.release, reader.block, streaming=streaming)
    assert guard is not None
    return guard, reader


def words(first: int, last: int) -> list[str]:
    return [f"t{number} " for number in range(first, last + 1)]


async def test_windows_are_judged_while_the_text_grows_and_released_in_order() -> None:
    asked = Asked()
    guard, reader = open_guard(judged(), asked)
    for word in words(1, 12):
        reader.push(guard, word)
    await asked.came(3)
    assert asked.questions == ["t1 t2 t3 t4 |", "t3 t4 t5 t6 t7 t8 |", "t7 t8 t9 t10 t11 t12 |"]
    await asked.say(1, "no")
    assert reader.text == ""  # the second has passed, the first is still judged
    await asked.say(0, "no")
    assert reader.text == "".join(words(1, 8))
    await asked.say(2, "no")
    await guard.finish()
    assert reader.text == reader.pushed
    assert len(asked.questions) == 3


async def test_deltas_keep_their_boundaries_when_they_are_released() -> None:
    guard, reader = open_guard(judged(), Asked("no"))
    await run(guard, reader, words(1, 9))
    assert reader.pieces == words(1, 9)


async def test_the_first_window_is_small_so_that_the_first_words_do_not_wait_for_a_whole_chunk() -> None:
    asked = Asked()
    guard, reader = open_guard(judged(chunk_size=200, context_size=50), asked)
    for word in words(1, FIRST_CHUNK):
        reader.push(guard, word)
    await asked.came(1)
    await asked.say(0, "no")
    assert reader.text == reader.pushed
    await guard.aclose()


async def test_no_more_windows_are_judged_at_once_than_the_config_says() -> None:
    asked = Asked()
    guard, reader = open_guard(judged(max_concurrent_checks=2), asked)
    for word in words(1, 20):
        reader.push(guard, word)
    await settle()
    assert len(asked.questions) == 2
    await asked.say(1, "no")
    assert len(asked.questions) == 3
    for number in (0, 2, 3, 4):
        await asked.came(number + 1)
        await asked.say(number, "no")
    await guard.finish()
    assert reader.text == reader.pushed
    assert asked.most_at_once == 2


async def test_a_block_keeps_its_window_back_and_cancels_the_later_checks() -> None:
    asked = Asked()
    guard, reader = open_guard(judged(), asked)
    for word in words(1, 12):
        reader.push(guard, word)
    await asked.came(3)
    await asked.say(0, "no")
    await asked.say(1, "yes")
    assert reader.text == "".join(words(1, 4))
    assert reader.violation is not None
    assert reader.violation.envelope() == {
        "message": "Blocked by self check output rails.",
        "type": "guardrails_violation",
        "param": "self check output",
        "code": "content_blocked",
    }
    await settle()
    assert asked.cancelled == 1
    guard.push("more")
    await guard.finish()
    assert reader.text == "".join(words(1, 4))


async def test_with_stream_first_text_leaves_at_once_and_a_block_cuts_what_follows() -> None:
    asked = Asked()
    guard, reader = open_guard(judged(stream_first=True), asked)
    for word in words(1, 3):
        reader.push(guard, word)
        assert reader.text == reader.pushed
    reader.push(guard, "t4 ")
    await asked.came(1)
    await asked.say(0, "yes")
    assert reader.violation is not None
    guard.push("more")
    assert reader.text == "".join(words(1, 4))


async def test_with_stream_first_no_more_than_chunk_size_deltas_are_ahead_of_their_verdict() -> None:
    asked = Asked()
    guard, reader = open_guard(judged(stream_first=True), asked)
    for word in words(1, 11):
        reader.push(guard, word)
    assert reader.text == "".join(words(1, 4))
    await asked.came(2)
    await asked.say(1, "no")
    assert reader.text == "".join(words(1, 4))  # the first window has no verdict yet
    await asked.say(0, "no")
    assert reader.text == reader.pushed
    finished = asyncio.create_task(guard.finish())
    await asked.came(3)
    await asked.say(2, "no")
    await finished
    assert (reader.text, reader.violation) == (reader.pushed, None)


async def test_with_stream_first_rolling_windows_leave_whole_and_each_behind_the_verdict_of_the_one_before() -> None:
    asked = Asked()
    guard, reader = open_guard(judged(stream_first=True, strategy="rolling"), asked)
    shown = []
    for word in words(1, 9):
        reader.push(guard, word)
        shown.append(len(reader.pieces))
    assert shown == [0, 0, 0, 4, 4, 4, 4, 4, 4]
    await asked.came(3)
    await asked.say(0, "no")
    assert reader.text == "".join(words(1, 6))
    await asked.say(1, "yes")
    assert reader.violation is not None
    assert reader.text == "".join(words(1, 6))
    await guard.aclose()


async def test_with_stream_first_a_rail_of_the_whole_text_lets_chunk_size_deltas_ahead_and_no_more() -> None:
    asked = Asked()
    rails = judged(flows=("self check facts",), stream_first=True)
    guard, reader = open_guard(rails, asked, context={"relevant_chunks": "facts"})
    for word in words(1, 9):
        reader.push(guard, word)
    assert reader.text == "".join(words(1, 4))
    finished = asyncio.create_task(guard.finish())
    await asked.came(1)
    assert reader.text == "".join(words(1, 4))
    await asked.say(0, "yes")
    await finished
    assert (reader.text, reader.violation) == (reader.pushed, None)


async def test_with_stream_first_a_window_that_passed_does_not_stand_for_the_whole_text() -> None:
    asked = Asked()
    rails = judged(flows=("self check output", "self check facts"), stream_first=True)
    guard, reader = open_guard(rails, asked, context={"relevant_chunks": "facts"})
    for word in words(1, 9):
        reader.push(guard, word)
    await asked.came(2)
    await asked.say(0, "no")
    await asked.say(1, "no")
    assert reader.text == "".join(words(1, 4))
    await guard.aclose()


async def test_a_request_that_does_not_stream_is_judged_in_the_same_windows_and_nothing_leaves_first() -> None:
    asked = Asked()
    guard, reader = open_guard(judged(stream_first=True), asked, streaming=False)
    for word in words(1, 6):
        reader.push(guard, word)
    await asked.came(1)
    assert (asked.questions, reader.text) == (["t1 t2 t3 t4 |"], "")
    await guard.aclose()


async def test_a_config_that_never_streams_judges_the_whole_text_once() -> None:
    asked = Asked("no")
    guard, reader = open_guard(judged(enabled=False), asked, streaming=False)
    await run(guard, reader, words(1, 50))
    assert asked.questions == [reader.pushed + "|"]
    assert reader.text == reader.pushed


async def test_rolling_windows_are_nemos_down_to_the_questions() -> None:
    asked = Asked("no")
    guard, reader = open_guard(judged(strategy="rolling"), asked)
    await run(guard, reader, words(1, 11))
    assert asked.questions == [
        "t1 t2 t3 t4 |",
        "t3 t4 t5 t6 |",
        "t5 t6 t7 t8 |",
        "t7 t8 t9 t10 |",
        "t9 t10 t11 |",
    ]
    assert reader.text == reader.pushed


@pytest.mark.parametrize(("chunk", "context"), [(4, 0), (2, 5), (1, 0), (4, 4), (200, 50)])
async def test_an_empty_text_asks_nobody(chunk: int, context: int) -> None:
    asked = Asked("no")
    guard, reader = open_guard(judged(chunk_size=chunk, context_size=context), asked)
    await run(guard, reader, ["", ""])
    assert (asked.questions, reader.text, reader.violation) == ([], "", None)


async def test_one_huge_delta_is_one_window() -> None:
    asked = Asked("no")
    guard, reader = open_guard(judged(), asked)
    await run(guard, reader, ["x" * 10_000])
    assert len(asked.questions) == 1
    assert reader.text == reader.pushed


async def test_what_incremental_rails_let_through_is_what_is_judged_in_the_models_own_deltas() -> None:
    detection = {"pii_patterns": {"output": {"entities": ["email"]}}}
    asked = Asked("no")
    rails = judged(flows=("mask pii on output", "self check output"), config=detection)
    guard, reader = open_guard(rails, asked)
    await run(guard, reader, ["Mail ", "ada@", "example", ".com", " now", " or", " never", "."])
    assert asked.questions == ["Mail [email] now or|", " now or never.|"]
    assert reader.text == "Mail [email] now or never."


async def test_a_block_of_an_incremental_rail_does_not_wait_for_the_judges() -> None:
    detection = {"regex_detection": {"output": {"patterns": ["forbidden"]}}}
    asked = Asked()
    rails = judged(flows=("regex check output", "self check output"), config=detection)
    guard, reader = open_guard(rails, asked)
    for word in [*words(1, 4), "for", "bid", "den"]:
        reader.push(guard, word)
    assert reader.violation is not None
    assert reader.violation.flow == "regex check output"
    assert reader.text == ""
    await guard.finish()
    await guard.aclose()


async def test_nothing_leaves_before_a_rail_that_needs_the_whole_text_has_passed() -> None:
    asked = Asked()
    rails = judged(flows=("self check output", "self check facts"))
    guard, reader = open_guard(rails, asked, context={"relevant_chunks": ["water is wet"]})
    for word in words(1, 4):
        reader.push(guard, word)
    await asked.came(1)
    await asked.say(0, "no")
    assert reader.text == ""
    finishing = asyncio.ensure_future(guard.finish())
    await asked.came(2)
    assert asked.questions[1] == "water is wet|t1 t2 t3 t4 "
    assert reader.text == ""
    await asked.say(1, "yes")
    await finishing
    assert reader.pieces == words(1, 4)


async def test_facts_that_are_not_supported_block_the_whole_text() -> None:
    rails = judged(flows=("self check facts",))
    guard, reader = open_guard(rails, Asked("no"), context={"relevant_chunks": ["water is wet"]})
    await run(guard, reader, words(1, 9))
    assert reader.text == ""
    assert reader.violation is not None
    assert reader.violation.flow == "self check facts"


async def test_closing_a_guard_cancels_its_checks_and_releases_nothing_more() -> None:
    asked = Asked()
    guard, reader = open_guard(judged(), asked)
    for word in words(1, 8):
        reader.push(guard, word)
    await asked.came(2)
    await guard.aclose()
    await guard.aclose()
    assert asked.cancelled == 2
    assert reader.text == ""
    assert reader.violation is None


async def test_what_an_earlier_attempt_released_is_the_first_windows_context() -> None:
    asked = Asked("no")
    guard, reader = open_guard(judged(), asked)
    guard.prime("one two three ")
    await run(guard, reader, words(1, 4))
    assert asked.questions == ["two three t1 t2 t3 t4 |"]
    assert reader.text == "".join(words(1, 4))


async def test_a_reader_that_fails_is_heard_of_when_the_guard_finishes() -> None:
    def broken(consumed: int, text: str | None) -> None:
        raise ConnectionError("gone")

    guard = judged().guard(turn(Asked("no")), broken, Reader().block)
    for word in words(1, 4):
        guard.push(word)
    with pytest.raises(ConnectionError, match="gone"):
        await guard.finish()
    await guard.aclose()


@examples(300)
@given(
    st.text('abc {}[]"é😀', max_size=120),
    chunkings,
    st.integers(1, 9),
    st.integers(0, 12),
    st.sampled_from(["documented", "rolling"]),
    st.integers(1, 4),
)
async def test_what_all_judges_allow_leaves_as_it_came(
    text: str, sizes: list[int], chunk: int, context: int, strategy: str, at_once: int
) -> None:
    rails = judged(chunk_size=chunk, context_size=context, strategy=strategy, max_concurrent_checks=at_once)
    guard, reader = open_guard(rails, Asked("no"))
    await run(guard, reader, cut(text, sizes))
    assert reader.text == text
    assert reader.consumed == len(text)
