"""However a text is cut into deltas, what leaves it is what the rails make of the whole text."""

from __future__ import annotations

import re

import pytest
from harness.examples import examples
from hypothesis import assume, given
from hypothesis import strategies as st
from railstream_engine.rails.judges.judge_group import Panel
from railstream_engine.rails.matching.entities import ENTITIES, entity_patterns
from railstream_engine.rails.matching.folding import SKIPPED_AT_ONCE
from railstream_engine.rails.matching.incremental import SLICE, Chain, IncrementalRail, guard_whole
from railstream_engine.rails.matching.patterns import PatternSet, PatternSpec
from railstream_engine.rails.output.guard import IncrementalGuard
from unit.rails.guarding import (
    Reader,
    Recipe,
    chunkings,
    cut,
    folded_texts,
    folding_rails,
    made,
    pattern_rails,
    run,
    settle,
    term_rails,
    texts,
    turn,
)

MANY = examples(1500)
SOME = examples(400)
"""Of long texts."""


def guard_of(rails: list[IncrementalRail], reader: Reader) -> IncrementalGuard:
    panel = Panel((), "output", False, 1, lambda flow: "no")
    return IncrementalGuard(Chain(rails), turn(), reader.release, reader.block, panel)


async def held_to_the_oracle(rails: list[IncrementalRail], text: str, sizes: list[int]) -> None:
    assume(rails)
    wanted, stopped_by = guard_whole(rails, text)
    skipped = SKIPPED_AT_ONCE if any(rail.matcher.folding for rail in rails) else 0
    reach = sum(rail.matcher.reach * (1 + bool(rail.matcher.folding)) + skipped for rail in rails)
    reader = Reader()
    guard = guard_of(rails, reader)
    for delta in cut(text, sizes):
        reader.push(guard, delta)
        assert wanted.startswith(reader.text)
        if reader.violation is not None:
            break
        if len(delta) > SLICE:
            await settle()
        elif not any(rail.masks for rail in rails):
            assert len(reader.pushed) - reader.consumed <= reach
    await guard.finish()
    if stopped_by is not None and any(rail.masks for rail in rails):
        assert wanted.startswith(reader.text)  # a mask with a block inside it does not leave in part
    else:
        assert reader.text == wanted
    assert (reader.violation and reader.violation.flow) == stopped_by
    if stopped_by is None:
        assert reader.consumed == len(text)


@MANY
@given(pattern_rails, texts, chunkings)
async def test_one_pattern_rail_releases_what_it_would_of_the_whole_text(
    recipe: Recipe, text: str, sizes: list[int]
) -> None:
    await held_to_the_oracle(made([recipe]), text, sizes)


@MANY
@given(term_rails, texts, chunkings)
async def test_one_term_rail_releases_what_it_would_of_the_whole_text(
    recipe: Recipe, text: str, sizes: list[int]
) -> None:
    await held_to_the_oracle(made([recipe]), text, sizes)


@MANY
@given(st.lists(pattern_rails | term_rails, min_size=2, max_size=4), texts, chunkings)
async def test_rails_in_a_row_release_and_stop_as_if_the_whole_text_went_through_one_after_the_other(
    recipes: list[Recipe], text: str, sizes: list[int]
) -> None:
    await held_to_the_oracle(made(recipes), text, sizes)


@SOME
@given(st.lists(folding_rails, min_size=1, max_size=2), folded_texts, chunkings | st.just([1] * 2000))
async def test_rails_that_fold_release_what_they_would_of_the_whole_text(
    recipes: list[Recipe], text: str, sizes: list[int]
) -> None:
    await held_to_the_oracle(made(recipes), text, sizes)


@SOME
@given(st.lists(folding_rails | term_rails, min_size=2, max_size=3), folded_texts, chunkings)
async def test_rails_that_fold_and_rails_that_do_not_follow_each_other(
    recipes: list[Recipe], text: str, sizes: list[int]
) -> None:
    await held_to_the_oracle(made(recipes), text, sizes)


@MANY
@given(
    st.sampled_from([r"a\d+b", r"(?i)secret", r"\bfoo\b", "x{3}", r"^no\n", r"(?<=k)ey", r"key(?!s)", r"end$", "é+è"]),
    st.text("a1b2secrtSfox no\nkyséèend", max_size=80),
    chunkings,
)
async def test_a_pattern_with_a_greatest_length_blocks_exactly_what_search_finds(
    pattern: str, text: str, sizes: list[int]
) -> None:
    found = re.search(pattern, text)
    rail = IncrementalRail("regex", PatternSet([PatternSpec(pattern)], extent_matters=False), False)
    reader = Reader()
    await run(guard_of([rail], reader), reader, cut(text, sizes))
    assert (reader.violation is not None) == (found is not None)
    assert reader.text == (text if found is None else text[: found.start()])


SAMPLES = {
    "email": ("ada.lovelace+1@mail.example.co.uk", "jörg@straße.example"),
    "phone": ("+49 30 1234567", "+1 (212) 555-0199", "(212) 555-0199", "212-555-0199"),
    "card": ("4111 1111 1111 1111", "4111111111111111", "5500-0055-5555-5559", "3782 822463 10005"),
    "iban": ("DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819"),
    "ssn": ("078-05-1120",),
    "ip": ("192.168.10.254", "fe80::1ff:fe23:4567:890a"),
    "api_key": ("sk-proj-" + "a1B2" * 8, "AKIAIOSFODNN7EXAMPLE", "ghp_" + "x1" * 18, "nvapi-" + "Zz9_" * 8),
}


@examples(400)
@given(
    st.lists(st.sampled_from([(kind, text) for kind, all_of in SAMPLES.items() for text in all_of]), max_size=4),
    st.lists(st.sampled_from(["hello", "Order 12345678", "at 10:30", "1.5.2", "a@b", "+4", "foo-bar", "DE89", "é😀"])),
    chunkings,
    st.randoms(use_true_random=False),
)
async def test_entities_are_masked_wherever_they_stand_and_nothing_else_is(
    entities: list[tuple[str, str]], words: list[str], sizes: list[int], random: st.DataObject
) -> None:
    pieces = [(f"[{kind}]", text) for kind, text in entities] + [(word, word) for word in words]
    random.shuffle(pieces)  # type: ignore[attr-defined]
    text, wanted = (", ".join(piece[which] for piece in pieces) for which in (1, 0))
    specs = entity_patterns(sorted(ENTITIES), "[{entity}]")
    rail = IncrementalRail("mask", PatternSet(specs, extent_matters=True), True)
    reader = Reader()
    await run(guard_of([rail], reader), reader, cut(text, sizes))
    assert reader.text == wanted
    assert (wanted, None) == guard_whole([rail], text)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
async def test_a_candidate_that_comes_to_nothing_in_its_bound_lets_the_text_go(size: int) -> None:
    rail = IncrementalRail("regex", PatternSet([PatternSpec("a.*b")], extent_matters=False, bound=16), False)
    text = "xx a" + "c" * 40 + "b" + "a" * 100
    reader = Reader()
    guard = guard_of([rail], reader)
    for delta in cut(text, [size] * 200):
        reader.push(guard, delta)
        assert len(reader.pushed) - reader.consumed < 16 + size
    await guard.finish()
    assert reader.text == text
    assert reader.violation is None


@pytest.mark.parametrize(
    ("pattern", "text", "released"),
    [
        ("b.*?(?<=a)x", "cbccccaxd", "c"),
        ("b.+?(?<!c)x", "cbccccaxd", "c"),
        ("b(?:cd)*?(?<=d)", "cbcdcd", "c"),
        ("[^a].*?(?<=a)", "aAAa", "a"),
        ("a.*?x|(?<=b)c", "bbc", "bb"),
    ],
)
async def test_a_lookbehind_behind_a_lazy_quantifier_is_waited_for(pattern: str, text: str, released: str) -> None:
    rail = IncrementalRail("regex", PatternSet([PatternSpec(pattern)], extent_matters=False), False)
    for size in (1, 2, 3, 100):
        reader = Reader()
        await run(guard_of([rail], reader), reader, cut(text, [size] * 100))
        assert reader.violation is not None
        assert reader.text == released


async def test_a_pattern_that_backtracks_without_end_blocks_the_text_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("railstream_engine.rails.matching.search_time.OFF_LOOP_SECONDS", 0.02)
    rail = IncrementalRail("slow", PatternSet([PatternSpec("(a|aa)+$")], extent_matters=False), False)
    reader = Reader()
    await run(guard_of([rail], reader), reader, ["a" * 200 + "b"])
    assert reader.text == ""
    assert reader.violation is not None
    assert reader.violation.code == "rail_execution_failure"
    assert reader.violation.message.startswith("Internal error in slow rail: ")


async def test_what_an_earlier_attempt_released_is_context_and_never_released_again() -> None:
    rail = IncrementalRail("regex", PatternSet([PatternSpec(r"(?<=pass)word|^start")], extent_matters=False), False)
    reader = Reader()
    guard = guard_of([rail], reader)
    guard.prime("my pass")
    await run(guard, reader, ["start ", "is fine"])
    assert (reader.text, reader.violation) == ("start is fine", None)
    reader = Reader()
    guard = guard_of([rail], reader)
    guard.prime("my pass")
    await run(guard, reader, ["wo", "rd"])
    assert reader.text == ""
    assert reader.violation is not None


async def test_the_models_own_text_is_never_taken_for_control() -> None:
    rail = IncrementalRail("regex", PatternSet([PatternSpec("forbidden")], extent_matters=False), False)
    deltas = ["{}", '{"error": {"message": "m", "type": "guardrails_violation"}}', "data: [DONE]", "\n\n", "[DONE]"]
    reader = Reader()
    await run(guard_of([rail], reader), reader, deltas)
    assert reader.text == "".join(deltas)
    assert reader.violation is None
