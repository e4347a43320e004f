"""Tool calls of one answer are told apart, whatever their provider numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from railstream.errors import CallError
from railstream_engine.providers.openai.events import ChunkReader
from railstream_engine.providers.port import Delta
from railstream_engine.providers.tool_indexes import MOST_CALLS


def fragment(arguments: object = "", name: str | None = None, id: str | None = None, **index: int) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {**index, **({"id": id, "type": "function"} if id else {}), "function": function}


def read(*deltas: list[dict[str, Any]], at: str = "delta") -> list[Delta]:
    reader = ChunkReader()
    parts = []
    for calls in deltas:
        chunk = {"choices": [{"index": 0, at: {"tool_calls": calls}}]}
        parts += reader.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    return [part for part in parts if isinstance(part, Delta)]


def collected(deltas: list[Delta]) -> dict[int, tuple[str, str]]:
    """Name and arguments by index, as every client puts them together; from both places where they stand."""
    found: dict[int, list[str]] = {}
    for delta in deltas:
        assert json.loads(delta.raw)["tool_calls"] == json.loads(delta.tools)
        for call in json.loads(delta.tools):
            names = found.setdefault(call["index"], ["", ""])
            names[0] += call["function"].get("name", "")
            names[1] += call["function"]["arguments"]
    return {index: (name, arguments) for index, (name, arguments) in found.items()}


TWO = {0: ("weather", '{"a":1}'), 1: ("time", '{"b":2}')}


@pytest.mark.parametrize("index", [{"index": 0}, {}], ids=["index 0 for each", "no index"])
def test_calls_with_ids_are_told_apart_by_them(index: dict[str, int]) -> None:
    calls = [fragment('{"a"', "weather", "c1", **index), fragment('{"b"', "time", "c2", **index)]
    rest = [fragment(":1}", id="c1", **index), fragment(":2}", id="c2", **index)]
    assert collected(read([calls[0]], [calls[1]], *([call] for call in rest))) == TWO
    assert collected(read(calls, rest)) == TWO


@pytest.mark.parametrize("index", [{"index": 0}, {}], ids=["index 0 for each", "no index"])
def test_calls_without_ids_are_told_apart_by_their_names_and_order(index: dict[str, int]) -> None:
    pieces = [fragment('{"a"', "weather", **index), fragment(":1}", **index)]
    others = [fragment('{"b"', "time", **index), fragment(":2}", **index)]
    assert collected(read(*([piece] for piece in pieces + others))) == TWO


@pytest.mark.parametrize("index", [{"index": 0}, {}], ids=["index 0 for each", "no index"])
def test_two_calls_of_one_name_are_two(index: dict[str, int]) -> None:
    both = [fragment('{"a":1}', "f", **index), fragment('{"a":2}', "f", **index)]
    assert collected(read(both)) == {0: ("f", '{"a":1}'), 1: ("f", '{"a":2}')}


def test_fragments_that_are_numbered_keep_their_bytes() -> None:
    raw = b'{ "tool_calls" :[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]}'
    more = b'{"tool_calls":[ {"index":0,"function":{"arguments":"{}"}}]}'
    reader = ChunkReader()
    parts = [
        part
        for delta in (raw, more)
        for part in reader.feed(b'data: {"choices":[{"index":0,"delta":' + delta + b"}]}\n\n")
    ]
    assert [part.raw for part in parts if isinstance(part, Delta)] == [raw, more]


def test_interleaved_calls_stay_with_their_indexes() -> None:
    starts = [fragment('{"a"', "weather", "c1", index=0), fragment('{"b"', "time", "c2", index=1)]
    rest = [fragment(":2}", index=1), fragment(":1}", index=0)]
    assert collected(read(starts, [rest[0]], [rest[1]])) == TWO


def test_an_id_that_changes_with_each_fragment_begins_no_other_call() -> None:
    pieces = [fragment('{"a"', "weather", "x1", index=0), fragment(":1}", id="x2", index=0)]
    assert collected(read(*([piece] for piece in pieces))) == {0: TWO[0]}


def test_calls_of_a_plain_answer_are_told_apart() -> None:
    calls = [fragment('{"a":1}', "weather", "c1"), fragment('{"b":2}', "time", "c2")]
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": calls}}]}
    reader = ChunkReader()
    reader.feed(json.dumps(body).encode())
    deltas = [part for part in reader.end() if isinstance(part, Delta)]
    assert collected(deltas) == TWO


def test_arguments_that_came_as_an_object_are_text() -> None:
    assert collected(read([fragment({"a": 1}, "f", "c", index=0)])) == {0: ("f", '{"a": 1}')}


def test_more_calls_than_the_bound_are_an_error_of_the_provider() -> None:
    with pytest.raises(CallError, match=f"more than {MOST_CALLS} tool calls") as caught:
        read([fragment("{}", "f", f"c{number}") for number in range(MOST_CALLS + 1)])
    assert caught.value.code == "provider"
