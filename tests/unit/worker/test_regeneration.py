"""An answer that is generated again passes only what follows the released text, and joins no two texts."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from railstream_worker.attempts.regeneration import RegeneratedSink


class Sink:
    """Keeps what passes."""

    def __init__(self) -> None:
        self.chunks: list[tuple[bytes, bytes]] = []

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        self.chunks.append((delta, choice))

    async def room(self) -> None:
        return None

    def has_room(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return "".join(json.loads(delta)["content"] for delta, _ in self.chunks)


def again(released: str) -> tuple[Sink, RegeneratedSink, list[bool]]:
    sink, differences = Sink(), list[bool]()
    return sink, RegeneratedSink(sink, released, lambda: differences.append(True)), differences


def said(text: str) -> bytes:
    return json.dumps({"content": text}).encode()


@given(text=st.text(min_size=1), cuts=st.lists(st.integers(0, 40)), released=st.integers(1, 40))
def test_the_same_text_in_any_cut_goes_on_after_what_was_released(text: str, cuts: list[int], released: int) -> None:
    sink, regenerated, differences = again(text[:released])
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    for start, end in itertools.pairwise(places):
        regenerated.chunk(said(text[start:end]))
    assert text[:released] + sink.text == text
    assert regenerated.caught_up
    assert not differences


@given(released=st.text(min_size=1), other=st.text(min_size=1))
def test_another_text_passes_nothing(released: str, other: str) -> None:
    sink, regenerated, differences = again(released)
    for letter in other:
        regenerated.chunk(said(letter))
    if other.startswith(released):
        assert released + sink.text == other
    else:
        assert sink.chunks == []
        assert not regenerated.caught_up
        assert bool(differences) is not released.startswith(other)


@pytest.mark.parametrize(
    ("delta", "choice"),
    [
        (b'{"reasoning_content":"Ab"}', b""),
        (b'{"content":"Ab","tool_calls":[]}', b""),
        (b'{"content":null}', b""),
        (b'{"content":"Ab"}', b'{"index":1}'),
    ],
)
def test_anything_but_text_of_the_first_choice_is_a_difference(delta: bytes, choice: bytes) -> None:
    sink, regenerated, differences = again("Abc")
    regenerated.chunk(delta, choice)
    regenerated.chunk(said("Abcdef"))
    assert (sink.chunks, differences) == ([], [True])


def test_what_follows_leaves_as_it_came() -> None:
    sink, regenerated, _ = again("Ab")
    for delta, choice in ((said("Abc"), b""), (b'{"content":"d", "x":1}', b'{"index":0,"logprobs":{}}')):
        regenerated.chunk(delta, choice)
    assert sink.chunks == [(b'{"content":"c"}', b""), (b'{"content":"d", "x":1}', b'{"index":0,"logprobs":{}}')]
