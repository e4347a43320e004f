"""Rails of tool calls and of tool results: which tools, what arguments, and what comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from railstream.config import RailsConfig
from railstream.errors import ConfigurationError
from railstream_engine.rails.engine import RailsEngine
from railstream_engine.rails.port import ToolCall, Violation
from unit.rails.guarding import Asked, engine, turn

DETECTION = {
    "tools": {"allowed": ["weather", "time"]},
    "regex_detection": {"input": {"patterns": ["forbidden"]}, "output": {"patterns": ["forbidden"]}},
    "pii_patterns": {"input": {"entities": ["email"]}, "output": {"entities": ["email"]}},
}
PROMPTS = [{"task": "self_check_output", "content": "Bad? {{ bot_response }}"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 7}},
    "required": ["city"],
    "additionalProperties": False,
}


def of_calls(*flows: str) -> RailsEngine:
    return engine({"tool_output": {"flows": list(flows)}, "config": DETECTION}, prompts=PROMPTS)


async def ruled(rails: RailsEngine, call: ToolCall, asked: Any = None) -> tuple[ToolCall | None, Violation | None]:
    stopped: list[Violation] = []
    guards = rails.guards(turn(asked or Asked("no")), stopped.append)
    assert guards.guarded
    assert guards.passes_unread, "only calls are read: all else passes"
    return await guards.rule_call(call), stopped[0] if stopped else None


@pytest.mark.parametrize(("name", "passes"), [("weather", True), ("Weather", False), ("rm", False), ("", False)])
async def test_only_allowed_tools_are_called(name: str, passes: bool) -> None:
    call, violation = await ruled(of_calls("check tool names"), ToolCall(name, "{}"))
    assert (call is not None) is passes
    assert (violation is None) is passes
    if violation is not None:
        assert violation.message == "Blocked by check tool names rails: a tool that this config does not allow."


@pytest.mark.parametrize(
    ("arguments", "passes"),
    [
        ('{"city": "Bern"}', True),
        ({"city": "Bern", "days": 3}, True),
        ('{"city": 5}', False),
        ('{"days": 3}', False),
        ('{"city": "Bern", "days": 8}', False),
        ('{"city": "Bern", "more": 1}', False),
        ('{"city": "Be', False),
        ("", False),
    ],
)
async def test_arguments_fit_the_schema_that_the_request_declares(arguments: Any, passes: bool) -> None:
    call = ToolCall("weather", arguments, schema=SCHEMA)
    ruling, violation = await ruled(of_calls("check tool arguments"), call)
    assert (ruling == call) is passes
    assert (violation is None) is passes


async def test_a_tool_that_the_request_does_not_declare_is_not_called() -> None:
    _, violation = await ruled(of_calls("check tool arguments"), ToolCall("weather", "{}", declared=False))
    assert violation is not None


@pytest.mark.parametrize("schema", [{"$ref": "http://127.0.0.1:1/x"}, {"type": "nothing"}, {"properties": 5}])
async def test_nothing_fits_a_schema_that_is_none(schema: dict[str, Any]) -> None:
    _, violation = await ruled(of_calls("check tool arguments"), ToolCall("weather", '{"a": 1}', schema=schema))
    assert violation is not None


async def test_a_schemas_own_expressions_are_not_run() -> None:
    schema = {"properties": {"a": {"pattern": "^(a+)+$"}}}
    call, _ = await ruled(of_calls("check tool arguments"), ToolCall("f", '{"a": "%s!"}' % ("a" * 40), schema=schema))
    assert call is not None


async def test_patterns_masks_and_judges_read_calls() -> None:
    _, violation = await ruled(of_calls("regex check output"), ToolCall("weather", '{"a": "f\\u006frbidden"}'))
    assert violation is not None
    call, _ = await ruled(of_calls("mask pii on output"), ToolCall("weather", {"to": ["ada@x.example"]}))
    assert call is not None
    assert call.arguments == {"to": ["[email]"]}
    asked = Asked("yes")
    _, violation = await ruled(of_calls("self check output"), ToolCall("weather", '{"a": 1}'), asked)
    assert violation is not None
    assert asked.questions == ['Bad? weather({"a":1})']


@pytest.mark.parametrize("flow", ["regex check output", "self check output"])
@pytest.mark.parametrize("levels", [0, 3, 4, 5, 12])
async def test_json_in_strings_is_read_however_deep_it_stands(flow: str, levels: int) -> None:
    arguments = '{"a":"f\\u006frbidden"}'
    for _ in range(levels):
        arguments = json.dumps({"a": arguments})
    asked = Asked("yes")
    _, violation = await ruled(of_calls(flow), ToolCall("weather", arguments), asked)
    assert violation is not None
    assert flow == "regex check output" or "forbidden" in asked.questions[0]


async def test_an_own_action_reads_calls() -> None:
    async def no_deletes(text: str) -> bool:
        return "delete" not in text

    config = RailsConfig.from_content(config={"rails": {"tool_output": {"flows": ["no deletes"]}}})
    rails = RailsEngine(config, {"no_deletes": no_deletes})
    for name, passes in (("read", True), ("delete", False)):
        call, _ = await ruled(rails, ToolCall(name, "{}"))
        assert (call is not None) is passes


@pytest.mark.parametrize(
    ("messages", "blocked"),
    [
        ([{"role": "tool", "tool_call_id": "c", "content": "forbidden"}], True),
        ([{"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "forbidden"}]}], True),
        ([{"role": "function", "name": "f", "content": "forbidden"}], True),
        ([{"role": "user", "content": "forbidden"}], False),
    ],
)
async def test_rails_of_tool_results_read_results_alone(messages: list[dict[str, Any]], blocked: bool) -> None:
    rails = engine({"tool_input": {"flows": ["regex check input"]}, "config": DETECTION})
    _, violation = await rails.check_input(turn(messages=messages))
    assert (violation is not None) is blocked


async def test_a_result_is_masked_where_it_stands() -> None:
    rails = engine({"tool_input": {"flows": ["mask pii on input"]}, "config": DETECTION})
    messages = [{"role": "user", "content": "ada@x.example"}, {"role": "tool", "content": "bob@x.example"}]
    found, violation = await rails.check_input(turn(messages=messages))
    assert violation is None
    assert [message["content"] for message in found] == ["ada@x.example", "[email]"]


@pytest.mark.parametrize(
    ("rails", "message"),
    [
        (
            {"output": {"flows": ["check tool names"]}, "config": DETECTION},
            "of the tool_output rails, not of the output",
        ),
        ({"tool_input": {"flows": ["check tool names"]}, "config": DETECTION}, "not of the tool_input rails"),
        ({"tool_output": {"flows": ["check tool names"]}}, r"fill rails\.config\.tools\.allowed"),
        ({"tool_output": {"flows": ["regex check input"]}, "config": DETECTION}, "is of the input rails"),
    ],
)
def test_a_rail_at_the_wrong_place_is_refused(rails: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        engine(rails)


@pytest.mark.parametrize("depth", range(6))
async def test_a_judge_reads_a_word_however_often_its_escapes_are_escaped(depth: int) -> None:
    text = 'say "forb\\u0069dden"'
    for _ in range(depth):
        text = json.dumps(text)
    judge = Asked("no")
    call, violation = await ruled(of_calls("self check output"), ToolCall("weather", json.dumps({"city": text})), judge)
    assert (call is None, violation) == (False, None)
    assert any("forbidden" in question for question in judge.questions)


async def test_a_judge_reads_backslashes_of_arguments_as_they_stand_too() -> None:
    judge = Asked("no")
    arguments = json.dumps({"city": r"C:\new\table"})
    await ruled(of_calls("self check output"), ToolCall("weather", arguments), judge)
    assert any(r"C:\\new\\table" in question for question in judge.questions)
