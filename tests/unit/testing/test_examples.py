"""The profile of Hypothesis: which one the environment chooses, and that CI draws no random examples."""

from __future__ import annotations

import os

import pytest
from harness.examples import examples, profile_name
from hypothesis import settings


@pytest.mark.parametrize(
    ("environment", "profile"),
    [
        ({}, "dev"),
        ({"CI": ""}, "dev"),
        ({"CI": "true"}, "ci"),
        ({"CI": "1"}, "ci"),
        ({"CI": "true", "HYPOTHESIS_PROFILE": "fuzz"}, "fuzz"),
    ],
)
def test_ci_chooses_the_profile_of_ci_unless_one_is_named(environment: dict[str, str], profile: str) -> None:
    assert profile_name(environment) == profile


def test_the_profile_of_this_environment_is_loaded() -> None:
    chosen = settings.get_profile(profile_name(os.environ))
    assert (settings().max_examples, settings().derandomize) == (chosen.max_examples, chosen.derandomize)


def test_ci_tries_the_same_examples_each_time_and_the_others_new_ones() -> None:
    assert settings.get_profile("ci").derandomize
    assert not settings.get_profile("dev").derandomize
    assert not settings.get_profile("fuzz").derandomize


def test_fuzzing_tries_twenty_times_as_many_examples_also_where_a_test_chooses_the_number() -> None:
    try:
        settings.load_profile("ci")
        usual = settings().max_examples, examples(300).max_examples
        settings.load_profile("fuzz")
        assert (settings().max_examples, examples(300).max_examples) == (20 * usual[0], 20 * 300)
    finally:
        settings.load_profile(profile_name(os.environ))
    assert usual[1] == 300
