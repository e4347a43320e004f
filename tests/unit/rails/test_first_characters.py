"""A delta is not searched when no match can begin in it: that must be true of every pattern."""

from __future__ import annotations

import sys

import pytest
import regex
from harness.examples import examples
from hypothesis import assume, given
from railstream_engine.rails.matching.first_characters import _LAST, MOST, any_of, first_characters
from unit.rails.guarding import sources, texts


def first_of(pattern: str) -> frozenset[str] | None:
    return first_characters(((pattern, regex.compile(pattern, regex.V0).flags),))


@pytest.mark.parametrize(
    ("pattern", "characters"),
    [
        ("secret", "s"),
        ("(?i)sk-", "sS\u017f"),
        ("(?:sk|rk)_[a-z]+", "sr"),
        ("a?b*c", "abc"),
        (r"(?<=x)foo(?!y)", "f"),
        ("[]a]b", "]a"),
        ("(?x) a b  # c", "a"),
        (r"x{2,}|\{", "x{"),
        ("(?>k+|l)m", "kl"),
        (r"(?a)\b\d{3}", "0123456789"),
    ],
)
def test_they_are_those_of_every_branch_up_to_the_first_that_must_be_there(pattern: str, characters: str) -> None:
    assert first_of(pattern) == frozenset(characters)


@pytest.mark.parametrize(
    "pattern",
    [
        ".x",
        "[^a]b",
        r"\w+@",
        r"\Sx",
        "a|.",
        r"(?i:a)b",
        "(?:foo){e<=1}",
        "[[:digit:]]x",
        r"\p{L}x",
        "(?if)ss",
        "\U00040000",
    ],
)
def test_what_can_begin_with_nearly_anything_or_reads_differently_elsewhere_is_always_searched(pattern: str) -> None:
    assert first_of(pattern) is None


def test_digits_of_all_scripts_count() -> None:
    digits = first_of(r"\d{3}")
    assert digits is not None
    assert {"0", "٣", "९"} <= digits
    assert len(digits) < MOST


def test_one_that_can_begin_with_anything_makes_all_of_them_such() -> None:
    assert any_of((frozenset("a"), frozenset("b"))) == frozenset("ab")
    assert any_of((frozenset("a"), None)) is None
    assert any_of((frozenset(map(chr, range(MOST + 1))),)) is None


def test_beyond_what_is_enumerated_nothing_is_a_digit_or_white_space_or_has_two_cases() -> None:
    beyond = "".join(map(chr, range(_LAST + 1, sys.maxunicode + 1)))
    assert regex.findall(r"[\d\s\p{Lu}\p{Ll}\p{Lt}]", beyond) == []


@examples(1000)
@given(sources, texts)
def test_every_match_begins_with_one_of_them(pattern: str, text: str) -> None:
    try:
        first = first_of(pattern)
    except regex.error:
        assume(False)
    assume(first is not None)
    assert {match.group()[:1] for match in regex.finditer(pattern, text) if match.group()} <= first
