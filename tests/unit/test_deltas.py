"""Half a surrogate pair is legal JSON: it is decoded, joined with its other half, and never keeps text from an end."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from railstream import events
from railstream.choice import Choice
from railstream.deltas import decode_delta, joined, well_formed
from railstream.events import Failed

HALVES = [b'{"content":"\\ud83d"}', b'{"content":"\\ude00"}']


def test_two_halves_in_two_deltas_are_one_character() -> None:
    choice = Choice()
    for half in HALVES:
        choice.add(decode_delta(half), None)
    assert choice.message()["content"] == "😀"


def test_a_half_without_its_other_is_replaced_wherever_it_stands() -> None:
    assert well_formed({"a\ud83d": ["x\ude00", {"b": "\ud83d"}], "n": 1}) == {
        "a\ufffd": ["x\ufffd", {"b": "\ufffd"}],
        "n": 1,
    }


def test_an_event_with_half_a_pair_in_its_text_can_be_written() -> None:
    name, data = events.encode(Failed(error={"message": "said \ud83d"}))
    assert (name, msgspec.json.decode(data)["error"]["message"]) == (events.FAILED, "said \ufffd")


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"5", b"[" * 100_000])
def test_what_is_no_object_is_an_error_without_its_bytes(data: bytes) -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        decode_delta(data)


@given(st.text(alphabet=st.characters(categories=["Cs", "Lu", "So"])))
def test_whatever_is_joined_can_be_encoded_and_whole_text_stays(text: str) -> None:
    assert joined(text).encode() is not None
    assert joined(joined(text)) == joined(text)
