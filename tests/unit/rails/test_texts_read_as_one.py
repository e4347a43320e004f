"""A word that is spread over neighbours is found wherever a model may read them as one text, and nowhere else."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from railstream.config import RailsConfig
from railstream_engine.rails.engine import RailsEngine
from railstream_engine.rails.input.joining import stretches
from unit.rails.guarding import engine, turn

TERMS = {"terms": {"input": {"terms": ["tungsten"], "whole_words": True}}}


def terms(flow: str = "terms check input") -> RailsEngine:
    built: RailsEngine = engine({"input": {"flows": [flow]}, "config": TERMS})
    return built


def user(*contents: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content} for content in contents]


def said(*texts: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text} for text in texts]}


def parts(*pairs: tuple[str, str], role: str = "assistant") -> dict[str, Any]:
    return {"role": role, "content": [{"type": key, key: text} for key, text in pairs]}


def calling(arguments: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}


def result(*texts: str) -> dict[str, Any]:
    inner = [{"type": "text", "text": text} for text in texts]
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": inner}]}


SPREAD: dict[str, list[dict[str, Any]]] = {
    "two refusals": [parts(("refusal", "tung"), ("refusal", "sten"))],
    "a text and a refusal in one list": [parts(("text", "tung"), ("refusal", "sten"))],
    "a content and a refusal": [{"role": "assistant", "content": "tung", "refusal": "sten"}],
    "a refusal that is written first": [{"role": "assistant", "refusal": "sten", "content": "tung"}],
    "a refusal, then an answer": [
        {"role": "assistant", "content": None, "refusal": "tung"},
        {"role": "assistant", "content": "sten"},
    ],
    "two thoughts": [parts(("thinking", "tung"), ("text", "hm"), ("thinking", "sten"))],
    "thoughts and answer": [{"role": "assistant", "reasoning_content": "tung", "content": "sten"}],
    "the parts of a nested tool result": [result("tung", "sten")],
    "two nested tool results": [result("tung"), result("sten")],
    "unknown keys of parts": [{"role": "user", "content": [{"type": "x", "y": "tung"}, {"type": "x", "y": "sten"}]}],
    "a text and an unknown part": [{"role": "user", "content": [{"type": "text", "text": "tung"}, {"y": "sten"}]}],
    "a bare string and a part": [{"role": "user", "content": ["tung", {"type": "text", "text": "sten"}]}],
    "parts with other texts between": [
        {"role": "user", "content": [{"type": "text", "text": "tung", "note": "x"}, {"type": "text", "text": "sten"}]}
    ],
    "a string and a list": user("tung", [{"type": "text", "text": "sten"}]),
    "a tool's result and the user": [{"role": "tool", "tool_call_id": "c", "content": "tung"}, *user("sten")],
    "messages around one with a note alone": [
        *user("tung"),
        {"role": "assistant", "content": "", "note": "x"},
        *user("sten"),
    ],
    "messages around a refusal alone": [
        *user("tung"),
        {"role": "assistant", "content": None, "refusal": "no"},
        *user("sten"),
    ],
    "a list in arguments": [calling('{"words": ["tung", "sten"]}')],
    "two values of arguments": [calling('{"a": "tung", "b": "sten"}')],
    "values of arguments that are an object": [calling({"a": "tung", "b": "sten"})],
    "arguments with numbers between": [calling('{"a": "tung", "n": 1, "b": "sten"}')],
    "text files": [
        {
            "role": "user",
            "content": [
                {"type": "file", "file": {"file_data": f"data:text/plain;base64,{data}"}}
                for data in ("dHVuZw==", "c3Rlbg==")
            ],
        }
    ],
    "thirteen parts": [said("see", "t", "u", "n", "g", "s", "t", "e", "n", "it", "is", "a", "metal")],
    "a part for each letter": [said(*"a long sentence and then ", *"tungsten", *" comes")],
    "a letter a message": user("so ", *"tungsten", " ok"),
    "between glued words": [said(*("la" for _ in range(40)), *"tungsten", *("la" for _ in range(40)))],
    "escapes in one text": user('{"a": "tungst\\u0065n"}'),
    "an escape over two parts of a result": [
        said('{"a":"tun\\u00', '67sten"}') | {"role": "tool", "tool_call_id": "c"}
    ],
    "an escape behind its backslash": [said('["tun\\', 'u0067sten"]')],
    "an escape within JSON in a string": [said('{"a":"{\\"b\\":\\"tun\\\\u0', '067sten\\"}"}')],
    "an escape between other parts": [said("so", "tun\\u00", "67sten", "it")],
    "escapes of escapes": user("see: tun\\\\\\\\u0067sten"),
}  # fmt: skip


@pytest.mark.parametrize("shape", list(SPREAD))
async def test_a_word_over_neighbours_is_refused(shape: str) -> None:
    _, violation = await terms().check_input(turn(messages=SPREAD[shape]))
    assert violation is not None
    assert violation.code == "content_blocked"


@pytest.mark.parametrize(
    "params",
    [
        {"prediction": {"type": "content", "content": [{"type": "text", "text": text} for text in ("tung", "sten")]}},
        {"stop": ["x", "tung", "sten"]},
        {"response_format": {"json_schema": {"schema": {"enum": ["tung", "sten"]}}}},
        {"something_new": [{"x": "tung"}, {"x": "sten"}]},
    ],
)
async def test_a_word_over_neighbours_in_the_options_is_refused(params: dict[str, Any]) -> None:
    _, violation = await terms().check_input(turn(params=params))
    assert violation is not None


@pytest.mark.parametrize("shape", ["two refusals", "nested", "reasoning"])
async def test_a_mask_rewrites_neighbours_of_any_kind(shape: str) -> None:
    message = {
        "two refusals": parts(("refusal", "so tung"), ("refusal", "sten ok")),
        "nested": result("so tung", "sten ok"),
        "reasoning": {"role": "assistant", "reasoning_content": "so tung", "content": "sten ok"},
    }[shape]
    found, violation = await terms("mask terms on input").check_input(turn(messages=[message]))
    assert violation is None
    written = json.dumps(found)
    assert "tung" not in written
    assert "sten" not in written
    assert "so ***" in written
    assert " ok" in written


async def test_values_that_only_together_look_like_a_number_are_no_number() -> None:
    """Two dates in a tool call are sixteen digits, and one in ten of those passes for a card."""
    built = engine(
        {"input": {"flows": ["detect pii on input"]}, "config": {"pii_patterns": {"input": {"entities": ["card"]}}}}
    )
    call = calling('{"from": "41111111", "to": "11111111"}')
    assert (await built.check_input(turn(messages=[call])))[1] is None
    assert (await built.check_input(turn(messages=[said("41111111", "11111111")])))[1] is not None


@pytest.mark.parametrize(
    "messages",
    [
        [*user("a stung"), {"role": "assistant", "content": "no"}, *user("sten gun")],
        [said("tung", " sten")],
        [said("stung", "stench")],
        [calling('{"a": "tung", "b": " sten"}')],
        [{"role": "user", "content": "tung", "name": "sten"}],
    ],
)
async def test_what_no_model_reads_as_the_word_passes(messages: list[dict[str, Any]]) -> None:
    assert await terms().check_input(turn(messages=messages)) == (messages, None)


def test_stretches_end_where_no_match_reaches_further() -> None:
    assert list(stretches(["a", "b", "c"], 9)) == [(0, 2), (1, 3)]
    assert list(stretches(["a", "b" * 9, "c", "d"], 9)) == [(0, 2), (1, 3), (1, 4), (2, 4)]
    assert list(stretches(["a", "b" * 8, "c", "d"], 9)) == [(0, 2), (0, 3), (1, 3), (1, 4), (2, 4)]


async def test_many_parts_are_read_in_turns_with_other_tasks() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    messages = [said(*["word "] * 3000, *"tungsten", *["word "] * 3000)]
    _, violation = await terms().check_input(turn(messages=messages))
    counting.cancel()
    assert violation is not None
    assert violation.code == "content_blocked"
    assert turns > 50


async def test_parts_that_make_too_many_stretches_to_be_read_in_time_are_refused() -> None:
    detection = {"regex_detection": {"input": {"patterns": [r"\bx{4000}y\b"]}}}
    built = engine({"input": {"flows": ["regex check input"]}, "config": detection})
    _, violation = await built.check_input(turn(messages=[said(*"a" * 3000)]))
    assert violation is not None
    assert violation.code == "rail_execution_failure"


async def test_an_own_rail_reads_what_several_messages_say_as_one() -> None:
    async def check_word(text: str) -> bool:
        return "tungsten" not in text

    config = RailsConfig.from_content(config={"rails": {"input": {"flows": ["check word"]}}})
    rails = RailsEngine(config, {"check_word": check_word})
    for messages in (user("tung", "sten"), [parts(("text", "tung"), ("refusal", "sten"))], [result("tung", "sten")]):
        _, violation = await rails.check_input(turn(messages=messages))
        assert violation is not None


PLACES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "a name": ([{"role": "user", "content": "hi", "name": "lark"}], {}),
    "metadata": (user("hi"), {"metadata": {"a": "lark"}}),
    "a key of metadata": (user("hi"), {"metadata": {"lark": "a"}}),
    "an enum": (user("hi"), {"tools": [{"function": {"parameters": {"properties": {"x": {"enum": ["lark"]}}}}}]}),
    "a constant": (user("hi"), {"response_format": {"json_schema": {"schema": {"const": "lark"}}}}),
    "a default": (user("hi"), {"response_format": {"json_schema": {"schema": {"default": {"type": "lark"}}}}}),
    "a property": (user("hi"), {"tools": [{"function": {"parameters": {"properties": {"lark": {}}}}}]}),
    "an unknown key": ([{"role": "user", "content": "hi", "note": {"type": "lark"}}], {}),
    "a wrong key": ([{"role": "user", "content": [{"type": "lark", "text": "hi"}]}], {}),
    "a role": ([{"role": "lark", "content": "hi"}], {}),
    "stop": (user("hi"), {"stop": "lark"}),
    "a tool": (user("hi"), {"tool_choice": {"type": "function", "function": {"name": "lark"}}}),
    "an argument": ([calling({"type": "lark"})], {}),
}


@pytest.mark.parametrize("word", ["lark", "grammar", "strict", "user", "string", "auto"])
@pytest.mark.parametrize("place", list(PLACES))
async def test_a_word_of_the_protocol_is_a_text_where_a_client_may_write_any(word: str, place: str) -> None:
    if (word, place) in (("user", "a role"), ("string", "a wrong key"), ("grammar", "a wrong key")):
        pytest.skip("it is the protocol's there")
    built = engine({"input": {"flows": ["terms check input"]}, "config": {"terms": {"input": {"terms": [word]}}}})
    messages, params = json.loads(json.dumps(PLACES[place]).replace("lark", word))
    _, violation = await built.check_input(turn(messages=messages, params=params))
    assert violation is not None


async def test_a_word_of_the_protocol_is_no_text_in_its_own_place() -> None:
    words = ["lark", "grammar", "strict", "user", "string", "auto", "type", "syntax", "function", "low"]
    built = engine({"input": {"flows": ["terms check input"]}, "config": {"terms": {"input": {"terms": words}}}})
    grammar = {"type": "grammar", "syntax": "lark", "definition": "x"}
    schema = {"type": "object", "properties": {"x": {"type": ["string", "null"], "format": "date"}}}
    params = {
        "tools": [
            {"type": "custom", "custom": {"name": "c", "format": {"type": "grammar", "grammar": grammar}}},
            {"type": "function", "function": {"name": "f", "strict": True, "parameters": schema}},
        ],
        "tool_choice": "auto",
        "reasoning_effort": "low",
    }
    assert await built.check_input(turn(messages=user("hi"), params=params)) == (user("hi"), None)


@pytest.mark.parametrize(
    "text",
    [
        "\u202enetsgnut",
        "so \u202enetsgnut\u202c it is",
        "\u202dtung\u202enets\u202c",
        "\u202enets\u202dtung\u202c",
        "\u2067\u202enetsgnut\u202c\u2069",
        "a\n\u202enetsgnut",
        "{\"a\": \"\\u202enetsgnut\"}",
    ],
)  # fmt: skip
async def test_text_that_is_shown_in_another_order_is_read_as_it_is_shown(text: str) -> None:
    _, violation = await terms().check_input(turn(user=text))
    assert violation is not None


def spelt(first: int, word: str = "tungsten") -> str:
    """The word in an alphabet whose letters follow each other from this one."""
    return "".join(chr(first + ord(letter) - ord("a")) for letter in word)


ALPHABETS = {
    "full width": 0xFF41, "circled": 0x24D0, "parenthesized": 0x249C, "mathematical": 0x1D4EA,
    "negative circled": 0x1F150, "negative squared": 0x1F170, "squared": 0x1F130, "parenthesized capitals": 0x1F110,
    "regional indicators": 0x1F1E6,
}  # fmt: skip


@pytest.mark.parametrize("alphabet", list(ALPHABETS))
async def test_the_letters_of_other_alphabets_are_letters(alphabet: str) -> None:
    _, violation = await terms().check_input(turn(user=f"about {spelt(ALPHABETS[alphabet])} please"))
    assert violation is not None


@pytest.mark.parametrize(
    "text",
    [
        "\u1d1b\u1d1c\u0274\u0262\ua731\u1d1b\u1d07\u0274",  # small capitals
        "\u1d57\u1d58\u207f\u1d4d\u02e2\u1d57\u1d49\u207f",  # superscript letters
        "t\u034fung\u3164st\u115fen",  # a grapheme joiner and fillers of Hangul
        "t\u2060u\u00adn\ufe0fg\u180esten",
        "t\u20e3u\u0336ng\U000e0020sten",
    ],
)
async def test_letters_in_other_clothes_are_letters(text: str) -> None:
    _, violation = await terms().check_input(turn(user=f"about {text} please"))
    assert violation is not None


@pytest.mark.parametrize("first", [0x2460, 0x2474, 0x2488, 0x24F5, 0x2776, 0x2780, 0x278A])
async def test_digits_in_other_clothes_are_digits(first: int) -> None:
    digits = "".join(chr(first + int(digit) - 1) for digit in "123456")
    detection = {"regex_detection": {"input": {"patterns": ["secret-[0-9]{6}"], "fold": True}}}
    built = engine({"input": {"flows": ["regex check input"]}, "config": detection})
    _, violation = await built.check_input(turn(user=f"a secret-{digits}"))
    assert violation is not None
