"""A request of very many pieces is refused by what there is to read, and holds up no other request of the worker."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest
from railstream_engine.rails.input import effort
from railstream_engine.rails.input.passed import Passed
from railstream_engine.rails.input.readers import Conversation, Reader
from unit.rails.guarding import engine, turn

TERMS = {"terms": {"input": {"terms": ["tungsten"]}}}
FLOW = "terms check input"


def parts(texts: list[str]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": text} for text in texts]}]


def calling(arguments: str) -> list[dict[str, Any]]:
    function = {"name": "f", "arguments": arguments}
    calls = [{"id": "c", "type": "function", "function": function}]
    return [{"role": "assistant", "content": None, "tool_calls": calls}]


REQUESTS: dict[str, list[dict[str, Any]]] = {
    "parts of one letter": parts(list("abcdefghij") * 6_000),
    "parts of one space": parts([" "] * 60_000),
    "messages of one letter": [{"role": "user", "content": "a"}] * 60_000,
    "a list in the arguments of a call": calling(json.dumps(list("ab") * 40_000)),
    "escapes within escapes": [{"role": "user", "content": "word " * 300_000 + "\\" * 2**20}],
}


async def outcome_of(messages: list[dict[str, Any]]) -> str:
    rails = engine({"input": {"flows": [FLOW]}, "config": TERMS})
    _, violation = await rails.check_input(turn(messages=messages))
    return "" if violation is None else violation.message


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_with_more_to_read_than_a_rail_reads_is_refused_and_says_so(name: str) -> None:
    message = await outcome_of(REQUESTS[name])
    assert "of this request" in message or "the request has more than 10000 texts" in message
    assert "send" in message or "join them" in message


async def test_whether_a_request_is_refused_does_not_depend_on_how_busy_the_machine_is() -> None:
    async def another_stream() -> None:
        while True:
            time.sleep(0.08)  # noqa: ASYNC251  # it stands for the work of other streams in this process
            await asyncio.sleep(0)

    other = asyncio.create_task(another_stream())
    try:
        assert await outcome_of(parts(["ab"] * 700)) == ""
    finally:
        other.cancel()


@pytest.mark.parametrize(("count", "on_loop"), [(2, True), (600, False)])
async def test_work_over_many_texts_is_done_in_a_thread_and_over_few_ones_at_once(count: int, on_loop: bool) -> None:
    reader = Reader("f", Conversation([], {}, count), Passed(), ())
    assert (await reader._aside(threading.get_ident) == threading.get_ident()) is on_loop


async def test_a_word_at_the_end_of_a_long_list_of_parts_is_found() -> None:
    assert "Blocked by terms check input" in await outcome_of(parts(["word"] * 3_000 + ["tung", "sten"]))


async def test_the_bound_counts_what_one_rail_reads_of_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effort, "MOST_SEARCHES", 3)
    assert await outcome_of([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]) == ""
    assert "3 texts of this request" in await outcome_of(parts(list("abcd")))
