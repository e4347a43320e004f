"""A word that is split over texts which stand beside each other is found, wherever they stand and however many."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from railstream_engine.rails.engine import RailsEngine
from railstream_engine.rails.input.effort import Effort
from railstream_engine.rails.input.input_rails import MOST_TEXTS
from railstream_engine.rails.input.joining import read_joined
from railstream_engine.rails.judges.local_judges import IncrementalJudge
from railstream_engine.rails.matching.incremental import IncrementalRail
from railstream_engine.rails.matching.terms import TermSet
from unit.rails.guarding import engine, turn

WORD = "tungsten"
FLOWS: dict[str, RailsEngine] = {
    "terms": engine({"input": {"flows": ["terms check input"]}, "config": {"terms": {"input": {"terms": [WORD]}}}}),
    "pattern": engine(
        {
            "input": {"flows": ["regex check input"]},
            "config": {"regex_detection": {"input": {"patterns": [rf"\b{WORD}\b"]}}},
        }
    ),
}
MASK = engine({"input": {"flows": ["mask terms on input"]}, "config": {"terms": {"input": {"terms": [WORD]}}}})
SSN = engine(
    {"input": {"flows": ["mask pii on input"]}, "config": {"pii_patterns": {"input": {"entities": ["ssn", "card"]}}}}
)


def texts(*parts: str, kind: str = "text") -> list[dict[str, Any]]:
    return [{"type": kind, kind: part} for part in parts]


def calls(*arguments: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"call_{at}", "type": "function", "function": {"name": "f", "arguments": json.dumps(one)}}
        for at, one in enumerate(arguments)
    ]


SPLIT: dict[str, dict[str, Any]] = {
    "refusal parts": {"role": "assistant", "content": texts("so tung", "sten it is", kind="refusal")},
    "whole words in refusal parts": {"role": "assistant", "content": texts("so", "tung", "sten", "it", kind="refusal")},
    "content and refusal": {"role": "assistant", "content": "so tung", "refusal": "sten it is"},
    "refusal and content": {"role": "assistant", "refusal": "so tung", "content": "sten it is"},
    "a text and a refusal part": {"role": "assistant", "content": [*texts("tung"), *texts("sten", kind="refusal")]},
    "thinking parts": {"role": "assistant", "content": texts("tung", "sten", kind="thinking")},
    "reasoning and content": {"role": "assistant", "reasoning_content": "tung", "content": "sten"},
    "an unknown kind of part": {"role": "user", "content": [{"type": "x", "y": "tung"}, {"type": "x", "y": "sten"}]},
    "parts with signatures": {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": one, "signature": "c2ln"} for one in ("tung", "sten")],
    },
    "parts and an image": {
        "role": "user",
        "content": [*texts("tung"), {"type": "image_url", "image_url": {"url": "https://x.example"}}, *texts("sten")],
    },
    "nested results": {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "t1", "content": texts(one)} for one in ("tung", "sten")],
    },
    "bare strings": {"role": "user", "content": ["so", "tung", "sten", "it"]},
    "two calls": {"role": "assistant", "content": None, "tool_calls": calls("so tung", "sten it")},
    "arguments of a call": {"role": "assistant", "content": None, "tool_calls": calls({"a": "tung", "b": "sten"})},
    "a list in arguments": {"role": "assistant", "content": None, "tool_calls": calls({"a": ["tung", "st", "en"]})},
    "a result in JSON": {"role": "tool", "tool_call_id": "c", "content": json.dumps([{"a": "tung"}, {"a": "sten"}])},
    "letter by letter": {"role": "user", "content": texts("about", *WORD, *"pleasenow")},
    "escapes over two parts": {"role": "tool", "content": texts('{"a":"\\u0074ung', 'sten"}'), "tool_call_id": "c"},
    "half an escape": {"role": "tool", "content": texts('{"a":"\\u00', '74ungsten"}'), "tool_call_id": "c"},
    "an escape in the middle": {"role": "user", "content": texts("so tun\\u0", "067sten it")},
}
OPTIONS: dict[str, Any] = {
    "stop": ["tung", "sten"],
    "prediction": {"type": "content", "content": texts("tung", "sten")},
    "metadata": {"a": "tung", "b": "sten"},
    "tools": [{"type": "function", "function": {"name": "f", "description": one}} for one in ("so tung", "sten it")],
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["tung", "sten"]}}},
    "something_new": {"deep": [["tung"], ["sten"]]},
}


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("where", SPLIT)
async def test_a_word_over_neighbours_in_a_message_is_found(flow: str, where: str) -> None:
    _, violation = await FLOWS[flow].check_input(turn(messages=[SPLIT[where]]))
    assert violation is not None


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("name", OPTIONS)
async def test_a_word_over_neighbours_in_an_option_is_found(flow: str, name: str) -> None:
    _, violation = await FLOWS[flow].check_input(turn(params={name: OPTIONS[name]}))
    assert violation is not None


@pytest.mark.parametrize("count", [13, 40, 400, 4000])
async def test_a_word_in_any_number_of_pieces_is_found_among_any_number_of_texts(count: int) -> None:
    around = [random.Random(number).choice(["so", "a", "metal", "x"]) for number in range(count)]
    pieces = [*around[: count // 2], *WORD, *around[count // 2 :]]
    _, violation = await FLOWS["terms"].check_input(turn(messages=[{"role": "user", "content": texts(*pieces)}]))
    assert violation is not None
    _, violation = await FLOWS["terms"].check_input(turn(messages=[{"role": "user", "content": one} for one in pieces]))
    assert violation is not None
    _, violation = await FLOWS["terms"].check_input(turn(messages=[{"role": "user", "content": texts(*around)}]))
    assert violation is None


async def test_a_pattern_without_a_look_around_is_found_in_any_number_of_pieces() -> None:
    rails = engine(
        {
            "input": {"flows": ["regex check input"]},
            "config": {"regex_detection": {"input": {"patterns": ["secret-[0-9]{6}"]}}},
        }
    )
    pieces = ["so"] * 900 + list("secret-123456") + ["it"] * 900
    _, violation = await rails.check_input(turn(messages=[{"role": "user", "content": texts(*pieces)}]))
    assert violation is not None


async def test_masks_rewrite_neighbours_of_every_kind_where_they_stand() -> None:
    message = {"role": "assistant", "content": "so tung", "refusal": "sten it is"}
    found, violation = await MASK.check_input(turn(messages=[message]))
    assert violation is None
    assert dict(found[0]) == message | {"content": "so ***", "refusal": " it is"}
    asked = turn(params={"stop": ["a", "tung", "sten", "b"]})
    _, violation = await MASK.check_input(asked)
    assert violation is None
    assert asked.params == {"stop": ["a", "***", "", "b"]}


async def test_a_mask_inside_of_json_over_two_parts_is_refused() -> None:
    message = {"role": "tool", "tool_call_id": "c", "content": texts('{"a":"\\u0074ung', 'sten"}')}
    _, violation = await MASK.check_input(turn(messages=[message]))
    assert violation is not None


async def test_numbers_that_nobody_wrote_as_one_text_are_no_card_number() -> None:
    codes = [f"{number}" for number in range(4001, 4200)]
    schema = {"type": "object", "properties": {"code": {"type": "string", "enum": codes}}}
    asked = turn(
        messages=[{"role": "tool", "tool_call_id": "c", "content": json.dumps({"codes": codes})}],
        params={"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}], "stop": codes[:4]},
    )
    before = json.dumps([asked.messages, asked.params])
    messages, violation = await SSN.check_input(asked)
    assert violation is None
    assert json.dumps([messages, asked.params]) == before


@pytest.mark.parametrize("seed", range(60))
async def test_terms_over_any_split_are_found_as_in_the_words_that_the_split_makes(seed: int) -> None:
    """Random letters of a small alphabet: a match must begin and end at a word's edge or at a text's."""
    dice = random.Random(seed)
    terms = sorted({"".join(dice.choices("ab", k=dice.randint(2, 5))) for _ in range(3)})
    parts = ["".join(dice.choices("ab ", k=dice.randint(1, 3))) for _ in range(dice.randint(2, 9))]
    matcher = TermSet(terms, ignore_case=False, whole_words=True, extent_matters=True)
    masked = await read_joined(
        IncrementalJudge(IncrementalRail("mask", matcher, True)), parts, Effort(), is_speech=True
    )
    found = any(
        term in "".join(parts[start:end]).split() for term in terms for start in range(9) for end in range(start, 10)
    )
    assert (masked != parts) == (found or any(term in " ".join(parts).split() for term in terms))


@pytest.mark.parametrize("place", ["parts", "messages", "stop"])
async def test_a_request_of_too_many_texts_is_refused_by_name_and_holds_nobody_up(place: str) -> None:
    many = ["a"] * (MOST_TEXTS + 1)
    sent: dict[str, Any] = {
        "parts": {"messages": [{"role": "user", "content": texts(*many)}]},
        "messages": {"messages": [{"role": "user", "content": one} for one in many]},
        "stop": {"params": {"stop": many}},
    }
    for rails in (*FLOWS.values(), SSN):
        _, violation = await rails.check_input(turn(**sent[place]))
        assert violation is not None
        assert violation.code == "rail_execution_failure"
        assert f"more than {MOST_TEXTS} texts" in violation.message
        assert "join them into fewer parts" in violation.message


@pytest.mark.parametrize("flow", FLOWS)
async def test_a_word_behind_many_values_is_found(flow: str) -> None:
    values = [*["so"] * 3000, "tung", "sten", *["it"] * 3000]
    _, violation = await FLOWS[flow].check_input(turn(params={"stop": values}))
    assert violation is not None
    assert violation.code == "content_blocked"
