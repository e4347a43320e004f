"""What a config decides of a guarded answer: unread channels, alternatives of tokens, and masks over cut text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from railstream.choice import Choice
from railstream.config import RailsConfig
from railstream.events import Blocked, Finished
from railstream_engine.rails.engine import RailsEngine
from unit.worker import test_no_unread_text_leaves as leaving
from unit.worker.test_no_unread_text_leaves import MARK, PROMPTS, STREAMING, Sink, answered, body_of, end_of

RAILS: dict[str, dict[str, Any]] = {
    "pass": {"flows": ["self check output"], "channels": {"self check output": ["content"]}, "unread_channels": "pass"},
    "drop": {"flows": ["self check output"], "channels": {"self check output": ["content"]}},
    "read": {"flows": ["regex check output"], "alternatives": "read"},
    "judge and read": {"flows": ["self check output"], "alternatives": "read"},
    "pii": {"flows": ["mask pii on output"]},
}
DETECTION = {
    "regex_detection": {"output": {"patterns": ["secret-[0-9]{6}"]}},
    "pii_patterns": {"output": {"entities": ["email", "ssn"]}},
}


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(name: str) -> RailsEngine:
        output = RAILS.get(name) or leaving.RAILS[name]["output"]
        config = DETECTION if name in RAILS else leaving.RAILS[name].get("config", {})
        content = {"output": {"streaming": STREAMING} | output, "config": config}
        return RailsEngine(RailsConfig.from_content(config={"rails": content, "prompts": PROMPTS}))

    monkeypatch.setattr(leaving, "engine", engine)


def message_of(sink: Sink) -> dict[str, Any]:
    choice = Choice()
    for delta, _ in sink.chunks:
        choice.add(json.loads(delta), None)
    return choice.message()


def deltas(*given: dict[str, Any], reason: str = "stop") -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in given]
    return body_of([*chunks, end_of(reason)], escaped=False)


def legacy(**fields: Any) -> dict[str, Any]:
    return {"function_call": fields}


CALL = {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": json.dumps({"a": MARK})}}]}


@pytest.mark.parametrize("rails", ["regex", "terms", "judge", "pii"])
async def test_a_call_in_the_form_before_tools_leaves_whole_when_it_is_read(rails: str) -> None:
    body = deltas(legacy(name="look_up", arguments='{"a":'), legacy(arguments='"b"}'), reason="function_call")
    sink, outcome = await answered(rails, body)
    assert isinstance(outcome, Finished)
    assert [json.loads(delta) for delta, _ in sink.chunks] == [legacy(name="look_up", arguments='{"a":"b"}')]


@pytest.mark.parametrize(
    "sent",
    [
        [legacy(name="f", arguments=json.dumps({"a": MARK}))],
        [legacy(name="f", arguments='{"a":"secr'), legacy(arguments='et-123456"}')],
        [legacy(name="f", arguments='{"a":"\\u0073ecret-123456"}')],
        [legacy(name="f", arguments={"a": [MARK]})],
        [legacy(name=MARK, arguments="{}")],
        [legacy(name="f", arguments="{}", note=MARK)],
    ],
)
@pytest.mark.parametrize("rails", ["regex", "terms", "mask", "judge"])
async def test_a_call_in_the_form_before_tools_is_read_as_a_tool_call(rails: str, sent: list[dict[str, Any]]) -> None:
    sink, outcome = await answered(rails, deltas(*sent))
    assert MARK not in leaving.text_that_left(sink, outcome)
    if "note" not in sent[0]["function_call"] and rails != "mask":
        assert isinstance(outcome, Blocked)


async def test_a_call_in_the_form_before_tools_passes_whole_where_no_rail_reads_tools() -> None:
    for rails, left in (("pass", True), ("drop", False)):
        sink, _ = await answered(rails, deltas(legacy(name="f", arguments="{}"), reason="function_call"))
        assert bool(sink.chunks) is left


def test_fragments_of_a_call_in_the_form_before_tools_are_joined_in_a_plain_answer() -> None:
    choice = Choice()
    for delta in (legacy(name="f", arguments='{"a":'), legacy(arguments="1}")):
        choice.add(delta, None)
    assert choice.message()["function_call"] == {"name": "f", "arguments": '{"a":1}'}


async def test_channels_that_no_rail_reads_pass_where_the_config_says_so() -> None:
    body = deltas({"reasoning_content": f"why {MARK}"}, CALL, {"refusal": MARK}, {"content": "Hello"})
    sink, outcome = await answered("pass", body)
    assert isinstance(outcome, Finished)
    message = message_of(sink)
    assert message["content"] == "Hello"
    assert (message["reasoning_content"], message["refusal"]) == (f"why {MARK}", MARK)
    assert message["tool_calls"][0]["function"] == CALL["tool_calls"][0]["function"]
    dropped, _ = await answered("drop", body)
    assert {name for name, value in message_of(dropped).items() if value} == {"role", "content"}


@pytest.mark.parametrize("rails", ["pass", "drop"])
async def test_what_a_rail_reads_is_blocked_also_where_other_channels_pass(rails: str) -> None:
    sink, outcome = await answered(rails, deltas({"content": f"a {MARK} b", "note": MARK}))
    assert isinstance(outcome, Blocked)
    assert MARK not in leaving.text_that_left(sink, outcome)


@pytest.mark.parametrize("rails", ["pass", "drop"])
async def test_an_unknown_key_never_passes(rails: str) -> None:
    sink, outcome = await answered(rails, deltas({"content": "Hello", "note": MARK}, {"note": {"deep": [MARK]}}))
    assert isinstance(outcome, Finished)
    assert MARK not in leaving.text_that_left(sink, outcome)


def token(text: str, *others: str) -> dict[str, Any]:
    top = [{"token": other, "logprob": -2.0, "bytes": None} for other in others]
    return {"token": text, "logprob": -0.1, "bytes": None, "top_logprobs": top}


def spoken(*tokens: dict[str, Any]) -> bytes:
    choices = [
        {"index": 0, "delta": {"content": one["token"]}, "logprobs": {"content": [one], "refusal": None}}
        for one in tokens
    ]
    return body_of([*({"choices": [choice]} for choice in choices), end_of()], escaped=False)


def alternatives_of(sink: Sink) -> list[list[str]]:
    entries = [json.loads(choice)["logprobs"]["content"] for _, choice in sink.chunks if b"logprobs" in choice]
    return [[other["token"] for other in entry["top_logprobs"]] for own in entries for entry in own]


async def test_alternatives_that_the_local_rails_let_stand_pass_where_the_config_says_so() -> None:
    tokens = (token("So ", "Thus ", MARK), token("secret-12345", "fine"), token("x", "6", "7", "y"))
    sink, outcome = await answered("read", spoken(*tokens))
    assert isinstance(outcome, Finished)
    assert alternatives_of(sink) == [["Thus "], ["fine"], ["y"]]
    dropped, _ = await answered("regex", spoken(*tokens))
    assert not any(alternatives_of(dropped))


async def test_alternatives_that_a_judging_rail_would_have_to_read_are_left_out() -> None:
    sink, _ = await answered("judge and read", spoken(token("So", "Thus"), token(" it is", " not")))
    assert not any(alternatives_of(sink))


SPLIT: dict[str, list[dict[str, Any]]] = {
    "deltas": [{"content": "I am 078-"}, {"content": "05-"}, {"content": "11"}, {"content": "20, ok"}],
    "letters": [{"content": one} for one in "I am 078-05-1120, ok"],
    "reasoning": [{"reasoning_content": "it is 078-05"}, {"reasoning_content": "-1120 I think"}],
    "reasoning and content by turns": [
        {"content": "078-"}, {"reasoning_content": "hm"}, {"content": "05-1120"}, {"reasoning_content": " so"},
    ],
    "a refusal": [{"refusal": "not 078"}, {"refusal": "-05-1120"}],
    "arguments": [
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":"078-'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '05-1120"}'}}]},
    ],
    "arguments with escapes": [
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":"078-05\\u00'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '2d1120"}'}}]},
    ],
    "the form before tools": [legacy(name="f", arguments='{"a":"078-'), legacy(arguments='05-1120"}')],
    "invisible characters": [{"content": "078\u200b-05"}, {"content": "\u2060-11\u00ad20"}],
    "full width": [{"content": "\uff10\uff17\uff18-"}, {"content": "05\uff0d1120"}],
}  # fmt: skip


@pytest.mark.parametrize("shape", list(SPLIT))
async def test_a_number_is_masked_in_whatever_pieces_it_comes(shape: str) -> None:
    sink, outcome = await answered("pii", deltas(*SPLIT[shape]))
    assert isinstance(outcome, Finished)
    left = leaving.text_that_left(sink, outcome)
    assert "[ssn]" in left
    assert "1120" not in left
    assert "078" not in left
