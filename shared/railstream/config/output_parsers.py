"""Output parsers: what a judge's answer says, as pure functions of its text.

They fail closed: an answer that says nothing, or both, is not safe, and ``understood`` tells it from a verdict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Judgement(NamedTuple):
    safe: bool
    categories: tuple[str, ...] = ()
    """The policies that were violated, as far as the judge named them."""
    understood: bool = True


Parser = Callable[[str], Judgement]

SAFE: Final = Judgement(True)
UNSAFE: Final = Judgement(False)
NONSENSE: Final = Judgement(False, understood=False)

_THINKING = re.compile(r"<think>.*?</think>", re.DOTALL)
_CATEGORY = re.compile(r"\bS\d{1,2}\b", re.IGNORECASE)


def is_content_safe(text: str) -> Judgement:
    """Yes or unsafe: block. No or safe: allow. Only the first two words count, and a contradiction blocks."""
    words = _first_words(text)
    if {"unsafe", "yes"} & words:
        return Judgement(False, tuple(_CATEGORY.findall(text)))
    if {"safe", "no"} & words and not {"not", "never"} & words:
        return SAFE
    return NONSENSE


def says_yes(text: str) -> Judgement:
    """For questions whose good answer is yes: is the statement supported, do the answers agree?"""
    words = _first_words(text)
    if "no" in words or "not" in words:
        return UNSAFE
    return SAFE if "yes" in words else NONSENSE


def is_on_topic(text: str) -> Judgement:
    """``on-topic`` or ``off-topic``."""
    plain = re.sub(r"\W+", " ", _spoken(text).lower()).strip()
    if "off topic" in plain:
        return UNSAFE
    return SAFE if plain.startswith("on topic") else NONSENSE


def llama_guard(text: str) -> Judgement:
    """``safe``, or ``unsafe`` and the violated categories: ``unsafe\\nS1,S10``."""
    plain = _spoken(text).strip().lower()
    if plain.startswith("unsafe"):
        return Judgement(False, tuple(re.findall(r"[\w-]+", plain.removeprefix("unsafe").upper())))
    return SAFE if re.fullmatch(r"safe\b\W*", plain) else NONSENSE


def nemoguard_parse_prompt_safety(text: str) -> Judgement:
    """``{"User Safety": "unsafe", "Safety Categories": "Violence, Threat"}``."""
    return _json_verdict(text, "User Safety")


def nemoguard_parse_response_safety(text: str) -> Judgement:
    """``{"User Safety": …, "Response Safety": "unsafe", "Safety Categories": "Violence"}``."""
    return _json_verdict(text, "Response Safety")


def nemotron_content_safety_parse_prompt_safety(text: str) -> Judgement:
    """Lines: ``User Safety: unsafe``, ``Safety Categories: Violence``."""
    return _line_verdict(text, "User Safety", "unsafe", "safe")


def nemotron_content_safety_parse_response_safety(text: str) -> Judgement:
    """Lines: ``Response Safety: unsafe``, ``Safety Categories: Violence``."""
    return _line_verdict(text, "Response Safety", "unsafe", "safe")


def nemotron_reasoning_parse_prompt_safety(text: str) -> Judgement:
    """A line ``Prompt harm: harmful`` or ``unharmful``, perhaps after ``<think>…</think>``."""
    return _line_verdict(text, "Prompt harm", "harmful", "unharmful")


def nemotron_reasoning_parse_response_safety(text: str) -> Judgement:
    """A line ``Response Harm: harmful`` or ``unharmful``, perhaps after ``<think>…</think>``."""
    return _line_verdict(text, "Response Harm", "harmful", "unharmful")


def _spoken(text: str) -> str:
    """The answer without its reasoning; empty when the reasoning was cut off."""
    spoken = _THINKING.sub("", text)
    return "" if "<think>" in spoken else spoken


def _first_words(text: str) -> set[str]:
    return set(re.findall(r"\w+", _spoken(text).lower())[:2])


def _json_verdict(text: str, field: str) -> Judgement:
    try:
        answer = json.loads(_spoken(text).strip().removeprefix("```json").removesuffix("```"))
        verdict = answer[field].strip().lower()
        categories = tuple(part.strip() for part in answer.get("Safety Categories", "").split(",") if part.strip())
    except (ValueError, KeyError, TypeError, AttributeError):
        return NONSENSE
    if verdict == "safe":
        return SAFE
    return Judgement(False, categories) if verdict == "unsafe" else NONSENSE


def _line_verdict(text: str, field: str, bad: str, good: str) -> Judgement:
    spoken = _spoken(text)
    verdicts = {word.lower() for word in re.findall(rf"{field}\s*:\s*(\w+)", spoken, re.IGNORECASE)}
    if len(verdicts) != 1:
        return NONSENSE  # said nothing, or twice and differently
    if verdicts == {good}:
        return SAFE
    listed = re.search(r"^\s*Safety Categories\s*:\s*(.*)$", spoken, re.IGNORECASE | re.MULTILINE)
    categories = tuple(part.strip() for part in listed[1].split(",") if part.strip()) if listed else ()
    return Judgement(False, categories) if verdicts == {bad} else NONSENSE


OUTPUT_PARSERS: Final[Mapping[str, Parser]] = MappingProxyType(
    {
        parser.__name__: parser
        for parser in (
            is_content_safe,
            says_yes,
            is_on_topic,
            llama_guard,
            nemoguard_parse_prompt_safety,
            nemoguard_parse_response_safety,
            nemotron_content_safety_parse_prompt_safety,
            nemotron_content_safety_parse_response_safety,
            nemotron_reasoning_parse_prompt_safety,
            nemotron_reasoning_parse_response_safety,
        )
    }
)

_OF_TASK: Final[Mapping[str, Parser]] = MappingProxyType(
    {
        "self_check_facts": says_yes,
        "self_check_hallucination": says_yes,
        "topic_safety_check_input": is_on_topic,
        "llama_guard_check_input": llama_guard,
        "llama_guard_check_output": llama_guard,
    }
)


def parser_of(task: str, named: str | None) -> Parser:
    """The parser of a task's answer: what its prompt names, or what suits the task.

    Where the task's own question decides what yes means (facts, topics), the task wins over ``is_content_safe``.
    """
    own = _OF_TASK.get(task.partition(" $")[0])
    if own is not None and named in (None, "is_content_safe"):
        return own
    return OUTPUT_PARSERS[named] if named else is_content_safe
