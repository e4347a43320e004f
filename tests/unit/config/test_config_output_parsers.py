"""Output parsers: verdicts are read, and nonsense is never safe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from railstream.config import OUTPUT_PARSERS, Judgement
from railstream.config.output_parsers import (
    is_content_safe,
    is_on_topic,
    llama_guard,
    nemoguard_parse_prompt_safety,
    nemoguard_parse_response_safety,
    nemotron_content_safety_parse_prompt_safety,
    nemotron_content_safety_parse_response_safety,
    nemotron_reasoning_parse_prompt_safety,
    parser_of,
    says_yes,
)

SAFE, UNSAFE, NONSENSE = Judgement(True), Judgement(False), Judgement(False, (), False)


@pytest.mark.parametrize("text", ["safe", "No", " no.\n", "Answer: No", "No, it is fine.", "<think>yes?</think> no"])
def test_no_and_safe_allow(text: str) -> None:
    assert is_content_safe(text) == SAFE


@pytest.mark.parametrize("text", ["yes", "Unsafe", "Answer: yes", "No, unsafe", "unsafe, no", "Yes. Safe? No."])
def test_yes_and_unsafe_block_and_win_a_contradiction(text: str) -> None:
    assert is_content_safe(text) == UNSAFE


@pytest.mark.parametrize(
    "text", ["", "maybe", "not safe", "never safe", "I think it is safe", "isn't safe", "<think>no", "nope", "unsafely"]
)
def test_anything_else_blocks_as_not_understood(text: str) -> None:
    assert is_content_safe(text) == NONSENSE


def test_violated_categories_are_kept() -> None:
    assert is_content_safe("unsafe\nS1, S10") == Judgement(False, ("S1", "S10"))
    assert llama_guard("unsafe\nS1,S10") == Judgement(False, ("S1", "S10"))


def test_llama_guard_answers() -> None:
    assert llama_guard("\n\nsafe") == SAFE
    assert llama_guard("safe, I believe") == NONSENSE
    assert llama_guard("") == NONSENSE


def test_where_yes_is_the_good_answer() -> None:
    assert says_yes("Yes, it follows.") == SAFE
    assert says_yes("no") == UNSAFE
    assert says_yes("perhaps") == NONSENSE


def test_topics() -> None:
    assert is_on_topic("On-topic.") == SAFE
    assert is_on_topic("off-topic") == UNSAFE
    assert is_on_topic("It is off-topic") == UNSAFE
    assert is_on_topic("yes") == NONSENSE


def test_nemoguard_json() -> None:
    answer = '{"User Safety": "safe", "Response Safety": "unsafe", "Safety Categories": "Violence, Threat"}'
    assert nemoguard_parse_prompt_safety(answer) == SAFE
    assert nemoguard_parse_response_safety(answer) == Judgement(False, ("Violence", "Threat"))
    assert nemoguard_parse_response_safety('{"User Safety": "safe"}') == NONSENSE
    assert nemoguard_parse_prompt_safety('{"User Safety": "unclear"}') == NONSENSE
    assert nemoguard_parse_prompt_safety("safe") == NONSENSE
    assert nemoguard_parse_prompt_safety("[]") == NONSENSE
    assert nemoguard_parse_prompt_safety('```json\n{"User Safety": "safe"}\n```') == SAFE


def test_nemotron_lines() -> None:
    answer = "<think>User Safety: unsafe</think>\nUser Safety: safe\nResponse Safety: unsafe\n"
    answer += "Safety Categories: Violence"
    assert nemotron_content_safety_parse_prompt_safety(answer) == SAFE
    assert nemotron_content_safety_parse_response_safety(answer) == Judgement(False, ("Violence",))
    assert nemotron_content_safety_parse_prompt_safety("User Safety: safe\nUser Safety: unsafe") == NONSENSE
    assert nemotron_content_safety_parse_response_safety("User Safety: safe") == NONSENSE
    assert nemotron_reasoning_parse_prompt_safety("Prompt harm: unharmful\nResponse Harm: harmful") == SAFE
    assert nemotron_reasoning_parse_prompt_safety("Prompt harm: harmful") == UNSAFE
    assert nemotron_reasoning_parse_prompt_safety("Prompt harm: who knows") == NONSENSE


@given(text=st.text())
def test_no_parser_raises_and_what_is_not_understood_is_never_safe(text: str) -> None:
    for parser in OUTPUT_PARSERS.values():
        judgement = parser(text)
        assert judgement.understood or not judgement.safe


def test_the_task_decides_what_yes_means() -> None:
    assert parser_of("self_check_facts", "is_content_safe") is says_yes
    assert parser_of("self_check_output", None) is is_content_safe
    assert parser_of("topic_safety_check_input $model=t", None) is is_on_topic
    assert parser_of("llama_guard_check_input", "nemoguard_parse_prompt_safety") is nemoguard_parse_prompt_safety
