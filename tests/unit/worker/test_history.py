"""What an attempt keeps of its appends: the newest ones, without a hole, under the numbers they were sent with."""

from __future__ import annotations

from harness.examples import examples
from hypothesis import given
from hypothesis import strategies as st
from railstream_worker.stream.appends import HISTORY, Append, History, Packed, Told

APPENDS = st.one_of(
    st.text(min_size=1, max_size=9).map(lambda text: f'{{"content":"{len(text)}"}}'.encode()),
    st.just(Told(b"{}", b'{"index":1}')),
    st.booleans().map(lambda script: Packed(b"*1", script)),
)


@given(st.lists(APPENDS, max_size=40), st.integers(-1, 41))
def test_what_follows_a_number_is_what_was_appended_after_it(appends: list[Append], seq: int) -> None:
    history = History()
    for append in appends:
        history.append(append)
    assert history.after(seq) == list(enumerate(appends))[seq + 1 :]


@examples(10)
@given(st.integers(1, 5 * HISTORY), st.lists(st.integers(0, 5 * HISTORY), max_size=9))
def test_the_newest_appends_are_kept_and_old_ones_go(count: int, rare: list[int]) -> None:
    history = History()
    appends = [Packed(b"%d" % seq) if seq in rare else b"%d" % seq for seq in range(count)]
    for append in appends:
        history.append(append)
    assert min(count, HISTORY) <= len(history) <= 2 * HISTORY
    assert history.after(-1) == list(enumerate(appends))[history.first :]
    assert history.after(count - 2) == [(count - 1, appends[-1])]
