"""Which deltas each window shows again, and which are new in it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from railstream_engine.rails.output.windows import DocumentedWindows, RollingBuffer, RollingWindows, Windows

Batch = tuple[list[int], list[int]]


def batches(windows: Windows[int], count: int) -> list[Batch]:
    """``(checked, new)`` of each window over the deltas 1 … count."""
    found = [window for number in range(1, count + 1) if (window := windows.add(number)) is not None]
    last = windows.end()
    found += [last] if last is not None else []
    return [([*window.context, *window.new], list(window.new)) for window in found]


def test_rolling_windows_at_4_and_2_are_nemos() -> None:
    assert batches(RollingWindows(4, 2), 11) == [
        ([1, 2, 3, 4], [1, 2, 3, 4]),
        ([3, 4, 5, 6], [5, 6]),
        ([5, 6, 7, 8], [7, 8]),
        ([7, 8, 9, 10], [9, 10]),
        ([9, 10, 11], [11]),
    ]


def test_an_exactly_full_rolling_stream_ends_in_a_window_of_context_only() -> None:
    assert batches(RollingWindows(4, 2), 8)[-1] == ([7, 8], [])
    assert batches(RollingWindows(4, 2), 4) == [([1, 2, 3, 4], [1, 2, 3, 4]), ([3, 4], [])]
    assert batches(RollingWindows(4, 2), 3) == [([1, 2, 3], [1, 2, 3])]
    assert batches(RollingWindows(4, 2), 0) == []


def test_rolling_windows_without_context_degenerate_as_nemos_do() -> None:
    found = batches(RollingWindows(200, 0), 1000)
    assert len(found) == 802
    assert found[1] == (list(range(2, 202)), [201])
    assert found[-1] == (list(range(1, 1001)), [])
    assert len(batches(RollingWindows(200, 50), 1000)) == 7


async def test_the_rolling_buffer_batches_strings_and_dicts() -> None:
    async def stream() -> AsyncGenerator[str | dict[str, str], None]:
        for number in range(1, 6):
            yield {"text": f"t{number} "} if number % 2 else f"t{number} "

    buffer = RollingBuffer(buffer_context_size=2, buffer_chunk_size=4)
    found = [(buffer.format_chunks(checked), new) async for checked, new in buffer(stream())]
    assert found == [("t1 t2 t3 t4 ", ["t1 ", "t2 ", "t3 ", "t4 "]), ("t3 t4 t5 ", ["t5 "])]
    assert buffer.total_yielded == 5
    with pytest.raises(ValueError, match="buffer_context_size must be non-negative"):
        RollingBuffer(-1, 4)


def test_documented_windows_at_4_and_2_show_two_checked_deltas_and_four_new_ones() -> None:
    assert batches(DocumentedWindows(4, 2), 11) == [
        ([1, 2, 3, 4], [1, 2, 3, 4]),
        ([3, 4, 5, 6, 7, 8], [5, 6, 7, 8]),
        ([7, 8, 9, 10, 11], [9, 10, 11]),
    ]


def test_an_exactly_full_documented_stream_needs_no_window_of_context_only() -> None:
    assert len(batches(DocumentedWindows(4, 2), 8)) == 2
    assert batches(DocumentedWindows(4, 2), 0) == []


def test_the_first_windows_are_small_and_grow_to_the_chunk_size() -> None:
    found = batches(DocumentedWindows(50, 5, first=8, growth=2.0), 200)
    assert [len(new) for _, new in found] == [8, 16, 32, 50, 50, 44]


@pytest.mark.parametrize(("chunk", "context", "count"), [(4, 0, 3), (2, 5, 5), (1, 0, 10), (1, 3, 10), (3, 3, 4)])
def test_documented_windows_stay_sane_at_the_edges(chunk: int, context: int, count: int) -> None:
    found = batches(DocumentedWindows(chunk, context), 10)
    assert len(found) == count
    assert all(len(checked) <= context + chunk for checked, _ in found)


@given(st.integers(1, 9), st.integers(0, 12), st.integers(0, 60), st.integers(1, 9), st.floats(1.1, 4))
def test_every_delta_is_new_exactly_once_and_in_order(
    chunk: int, context: int, count: int, first: int, growth: float
) -> None:
    for windows in (
        DocumentedWindows[int](chunk, context, first=first, growth=growth),
        RollingWindows[int](chunk, context),
    ):
        found = batches(windows, count)
        assert [number for _, new in found for number in new] == list(range(1, count + 1))
        assert all(checked[len(checked) - len(new) :] == new for checked, new in found)


@given(st.integers(1, 9), st.integers(0, 12), st.integers(1, 60))
def test_documented_windows_show_the_context_before_what_is_new(chunk: int, context: int, count: int) -> None:
    for checked, new in batches(DocumentedWindows(chunk, context), count):
        start = new[0] - min(context, new[0] - 1)
        assert checked == list(range(start, new[-1] + 1))
