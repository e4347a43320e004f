"""A run that is read again passes only what follows the released texts, whatever they are and however they are cut."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from railstream.choice import Choice
from railstream_worker.attempts.released import LostCalls
from railstream_worker.attempts.replay import ReleasedParts, ReplaySink

Delta = dict[str, Any]


class Sink:
    """Keeps what passes."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.raw: list[bytes] = []

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        self.deltas.append(json.loads(delta))
        self.raw.append(delta)

    async def room(self) -> None:
        return None

    def has_room(self) -> bool:
        return True


def call(index: int, name: str, *pieces: str) -> list[Delta]:
    head = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
    fragments = [{"index": index, "function": {"arguments": piece}} for piece in pieces]
    return [{"tool_calls": [fragment]} for fragment in (head, *fragments)]


def message(deltas: list[Delta]) -> dict[str, Any]:
    choice = Choice()
    for delta in deltas:
        choice.add(delta, None)
    return choice.message()


def replayed(before: list[Delta], again: list[Delta], choice: bytes = b"") -> tuple[Sink, ReplaySink, list[bool]]:
    released, sink, differences = ReleasedParts(), Sink(), list[bool]()
    for delta in before:
        released.add(delta, choice)
    replay = ReplaySink(sink, released, lambda: differences.append(True))
    for delta in again:
        replay.chunk(json.dumps(delta).encode())
    return sink, replay, differences


def cut(text: str, places: list[int]) -> list[str]:
    points = sorted({0, len(text), *(place for place in places if place < len(text))})
    return [text[start:end] for start, end in itertools.pairwise(points)]


ANSWER: list[Delta] = [
    {"role": "assistant", "content": ""},
    *({"reasoning_content": piece} for piece in ("Hm", ", a ", "train.")),
    *({"content": piece} for piece in ("I ", "look", " it ", "up.")),
    *call(0, "look", '{"for', '": "a ', 'train"}'),
    *call(1, "wait", "{", "}"),
]


@given(released=st.integers(0, len(ANSWER)), places=st.lists(st.integers(0, 12)))
def test_an_answer_goes_on_wherever_it_broke_off_in_whatever_cut(released: int, places: list[int]) -> None:
    again = [
        *({"reasoning_content": piece} for piece in cut("Hm, a train.", places)),
        *({"content": piece} for piece in cut("I look it up.", places)),
        *call(0, "look", *cut('{"for": "a train"}', places)),
        *call(1, "wait", *cut("{}", places)),
    ]
    sink, replay, differences = replayed(ANSWER[:released], again)
    assert message([*ANSWER[:released], *sink.deltas]) == message(ANSWER)
    assert replay.caught_up
    assert not differences


def test_what_follows_the_released_text_passes_as_the_providers_own_bytes() -> None:
    sink, replay, _ = replayed([{"content": "one"}], [{"content": "one"}])
    replay.chunk(b'{ "content" : " two" }')
    assert sink.raw == [b'{ "content" : " two" }']


def test_half_a_surrogate_pair_is_compared_as_it_came() -> None:
    halves: list[Delta] = [{"content": "\ud83d"}, {"content": "\ude82"}, {"content": "!"}]
    sink, replay, _ = replayed(halves[:1], halves)
    assert replay.caught_up
    assert [delta["content"] for delta in sink.deltas] == ["\ude82", "!"]


@pytest.mark.parametrize(
    "again",
    [
        [{"content": "ona"}],
        [{"content": "two"}],
        [{"content": {"text": "one"}}],
        [{"annotations": [1]}],
    ],
)
def test_at_the_first_difference_nothing_passes_any_more(again: list[Delta]) -> None:
    sink, replay, differences = replayed([{"content": "one"}], [*again, {"content": "one more"}])
    assert sink.deltas == []
    assert (differences, replay.caught_up) == ([True], False)


def test_a_tool_call_with_other_arguments_differs() -> None:
    before = call(0, "look", '{"for": "a ')
    _, replay, differences = replayed(before, call(0, "look", '{"for": "the train"}'))
    assert (differences, replay.caught_up) == ([True], False)


@pytest.mark.parametrize(("delta", "choice"), [({"content": "a"}, b'{"index":1}'), ({"audio": {"id": "a"}}, b"")])
def test_released_parts_that_are_no_texts_of_the_first_choice_cannot_be_replayed(delta: Delta, choice: bytes) -> None:
    sink, replay, _ = replayed([delta], [{"content": "a"}], choice)
    assert (replay.differs, sink.deltas) == (True, [])


def test_chunks_of_later_attempts_belong_to_the_run_that_they_have_read() -> None:
    lost = LostCalls()
    lost.follow("2.1")
    for maker in ("1", "2", "3", "4"):
        lost.hear_chunk(maker, 5)
    assert list(lost) == [("1.1", 1, 5)]
    assert lost.of_run("2.1") == ("2.1", 3, 15)
