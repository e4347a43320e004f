"""Text of seeds: prefixes, splits, continuations and stamps, for any text."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from railstream.testing import text

seeds = st.integers() | st.text(max_size=8)


@given(seeds, st.integers(0, 60), st.integers(0, 60))
def test_fewer_words_of_a_seed_are_a_prefix_of_more(seed: int | str, some: int, more: int) -> None:
    few, many = sorted((some, more))
    assert text.words(seed, many)[:few] == text.words(seed, few)


def test_another_process_says_the_same_words() -> None:
    program = "from railstream.testing import text; import sys; sys.stdout.buffer.write(text.text('s', 50).encode())"
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
    assert said.decode() == text.text("s", 50)


def test_words_of_another_seed_differ() -> None:
    assert text.text(1, 30) != text.text(2, 30)


@given(st.text(max_size=200), st.integers(0, 9))
def test_pieces_of_a_text_make_the_text(whole: str, piece: int) -> None:
    pieces = text.split(whole, piece)
    assert "".join(pieces) == whole
    assert all(pieces)


@given(st.lists(st.text(min_size=1, max_size=8)), st.data())
def test_what_is_left_after_any_prefix_completes_the_text(pieces: list[str], data: st.DataObject) -> None:
    whole = "".join(pieces)
    prefix = whole[: data.draw(st.integers(0, len(whole)))]
    left = text.after(pieces, prefix)
    assert left is not None
    assert prefix + "".join(left) == whole
    assert all(left)


@given(st.integers(0, 40))
def test_nothing_continues_a_prefix_that_was_never_said(length: int) -> None:
    assert text.after(text.words(0, 9), text.text(0, 9)[:length] + "\0") is None


@given(st.lists(st.integers(0, 2**63)))
def test_stamps_are_read_back_and_taken_out(times: list[int]) -> None:
    stamped = "".join(f" word{text.stamp(now)}" for now in times)
    assert list(text.stamps(stamped)) == times
    assert text.unstamped(stamped) == " word" * len(times)
