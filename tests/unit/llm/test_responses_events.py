"""The reader of the Responses API's events, fed with what providers send and with what they should not send."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from railstream.errors import CallError
from railstream_engine.providers.openai_responses.events import ResponseReader
from railstream_engine.providers.openai_responses.position import Position
from railstream_engine.providers.port import Delta, Finish, Part, ResponseInfo, TokenCount

CREATED = {"type": "response.created", "response": {"id": "resp_1", "model": "m", "status": "queued"}}
DONE = {"type": "response.completed", "response": {"id": "resp_1", "model": "m", "status": "completed", "output": []}}


def numbered(*events: dict[str, Any]) -> list[dict[str, Any]]:
    return [event | {"sequence_number": number} for number, event in enumerate(events)]


def framed(events: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


def read(events: Sequence[dict[str, Any]], position: Position | None = None) -> list[Part]:
    reader = ResponseReader(position or Position())
    parts = reader.feed(framed(events))
    return [*parts, *reader.end()]


def text(said: str, item: int = 0, part: int = 0) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "output_index": item, "content_index": part, "delta": said}


def content(parts: Sequence[Part]) -> str:
    return "".join(part.content for part in parts if isinstance(part, Delta))


@given(cuts=st.lists(st.integers(0, 900), max_size=6))
def test_events_are_read_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    data = framed(numbered(CREATED, text("Zürich "), text("流れ\n\n"), text("🚂"), DONE))
    reader, parts = ResponseReader(Position()), list[Part]()
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in itertools.pairwise(places):
        parts += reader.feed(data[start:end])
    assert content(parts) == "Zürich 流れ\n\n🚂"
    assert parts[0] == ResponseInfo("resp_1", "m")
    assert parts[-1] == Finish(0, "stop", "completed")
    assert reader.done


def test_events_that_nobody_knows_are_left_out_whatever_their_fields_are() -> None:
    odd = [{"type": "response.odd.delta", "delta": {"a": [1]}}, {"type": "response.audio.delta", "delta": "abc"}]
    assert content(read(numbered(CREATED, *odd, text("Hi"), DONE))) == "Hi"


@pytest.mark.parametrize(
    "event",
    [
        text("x") | {"delta": 5},
        text("x") | {"delta": None},
        text("x") | {"output_index": "first"},
        text("x") | {"output_index": -1},
        text("x") | {"output_index": 10**9},
        text("x") | {"sequence_number": "one"},
        {"type": "response.completed", "response": "done"},
        {"type": "response.completed", "response": {"id": 5}},
        {"type": "response.in_progress", "response": {"id": "../files"}},
        {"type": "response.in_progress", "response": {"id": "r" * 1000}},
        {"type": "response.completed", "response": {"id": "resp_1", "usage": {"input_tokens": "many"}}},
        {"type": "response.completed", "response": {"id": "resp_1", "output": ["text"]}},
        {"type": "response.completed", "response": {"id": "resp_2"}},
        {"type": "response.output_item.added", "item": None},
        {"type": "response.output_item.added", "item": {"type": "function_call", "name": 5, "call_id": "a"}},
        {"type": "response.function_call_arguments.delta", "output_index": 4, "delta": "{"},
    ],
)
def test_wrong_types_are_the_providers_error_and_end_the_reading(event: dict[str, Any]) -> None:
    position = Position()
    with pytest.raises(CallError) as caught:
        read([CREATED | {"sequence_number": 0}, {"sequence_number": 1} | event], position)
    assert caught.value.code == "provider"
    assert not position.resumable


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "slow down"}, "rate_limited"),
        ({"type": "error", "error": {"code": "server_error", "message": "no"}}, "provider"),
        (
            {
                "type": "response.failed",
                "response": {
                    "id": "resp_1",
                    "status": "failed",
                    "error": {"code": "rate_limit_exceeded", "message": "x"},
                },
            },
            "rate_limited",
        ),
        ({"type": "response.failed", "response": {"id": "resp_1", "status": "failed"}}, "provider"),
        ({"type": "response.cancelled", "response": {"id": "resp_1", "status": "cancelled"}}, "provider"),
        ({"type": "response.completed", "response": {"id": "resp_1", "status": "failed", "error": {}}}, "provider"),
    ],
)
def test_a_failure_in_the_stream_is_a_typed_error_and_never_an_end(event: dict[str, Any], code: str) -> None:
    position = Position()
    with pytest.raises(CallError) as caught:
        read(numbered(CREATED, event), position)
    assert caught.value.code == code
    assert not position.resumable


def test_the_usage_of_a_failed_run_is_told_before_its_failure() -> None:
    failed = {"id": "resp_1", "status": "failed", "usage": {"input_tokens": 3, "output_tokens": 2}}
    reader = ResponseReader(Position())
    parts = reader.feed(framed(numbered(CREATED, {"type": "response.failed", "response": failed})))
    (count,) = [part for part in parts if isinstance(part, TokenCount)]
    assert (count.input_tokens, count.output_tokens) == (3, 2)
    with pytest.raises(CallError):
        reader.end()


@pytest.mark.parametrize(
    ("reason", "told"), [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("steered", "steered")]
)
def test_an_incomplete_run_says_why(reason: str, told: str) -> None:
    response = {"id": "resp_1", "status": "incomplete", "incomplete_details": {"reason": reason}}
    parts = read(numbered(CREATED, {"type": "response.incomplete", "response": response}))
    assert parts[-1] == Finish(0, told, reason)


def test_an_end_of_the_body_without_the_end_of_the_run_is_no_end() -> None:
    reader = ResponseReader(Position())
    reader.feed(framed(numbered(CREATED, text("Hi"))) + b"data: [DONE]\n\n")
    assert reader.end() == []
    assert not reader.complete


def test_half_a_surrogate_pair_keeps_its_escapes() -> None:
    parts = read(numbered(CREATED, text("\ud83d"), text("\ude82"), DONE))
    assert [part.raw for part in parts if isinstance(part, Delta)] == [
        b'{"content": "\\ud83d"}',
        b'{"content": "\\ude82"}',
    ]


def test_events_that_came_before_are_not_told_twice() -> None:
    position, events = Position(), numbered(CREATED, text("one "), text("two "), text("three"), DONE)
    first = ResponseReader(position).feed(framed(events[:3]))
    assert content(first) + content(read(events[1:], position)) == "one two three"
    assert position.ended


def test_text_that_a_break_has_lost_is_noticed_at_the_end() -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "one two three"}]}
    whole = DONE | {"response": DONE["response"] | {"output": [item]}}  # type: ignore[operator]
    position, events = Position(), numbered(CREATED, text("one "), text("two "), text("three"), whole)
    ResponseReader(position).feed(framed(events[:2]))
    with pytest.raises(CallError) as caught:
        read(events[3:], position)
    assert caught.value.code == "truncated"


def test_what_no_delta_brought_is_taken_from_the_whole_output() -> None:
    items = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Hi."}, {"type": "refusal", "refusal": "No."}]},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "web_search_call"},
    ]
    whole = DONE | {"response": DONE["response"] | {"output": items}}  # type: ignore[operator]
    parts = read(numbered(CREATED, whole))
    deltas = [part for part in parts if isinstance(part, Delta)]
    assert [(d.reasoning, d.content, d.refusal) for d in deltas[:3]] == [
        ("Hm.", "", ""),
        ("", "Hi.", ""),
        ("", "", "No."),
    ]
    assert [json.loads(delta.tools)[0]["function"] for delta in deltas[3:]] == [
        {"name": "f", "arguments": ""},
        {"arguments": "{}"},
    ]
    assert parts[-1] == Finish(0, "tool_calls", "completed")


def test_a_response_object_in_place_of_a_stream_is_read_at_the_end_of_the_body() -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "Hi."}]}
    reader = ResponseReader(Position())
    reader.feed(json.dumps({"object": "response", "id": "resp_1", "status": "completed", "output": [item]}).encode())
    assert content(reader.end()) == "Hi."
    assert reader.complete


def test_each_part_of_a_reasoning_summary_is_a_paragraph() -> None:
    def summary(said: str, part: int) -> dict[str, Any]:
        return {
            "type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": part, "delta": said,
        }  # fmt: skip

    parts = read(numbered(CREATED, summary("First", 0), summary(" thing.", 0), summary("Then", 1), DONE))
    assert "".join(part.reasoning for part in parts if isinstance(part, Delta)) == "First thing.\n\nThen"


def test_the_run_is_told_as_soon_as_the_provider_names_it_and_only_once() -> None:
    told: list[str] = []
    progress = {"type": "response.in_progress", "response": CREATED["response"]}
    read(numbered(CREATED, progress, DONE), Position(on_begun=told.append))
    assert told == ["resp_1"]


@pytest.mark.parametrize("status", ["queued", "in_progress", None])
def test_a_whole_response_that_has_not_ended_is_a_run_to_be_read_again_and_no_answer(status: str | None) -> None:
    position = Position()
    reader = ResponseReader(position)
    reader.feed(json.dumps({"object": "response", "id": "resp_1", "status": status, "output": []}).encode())
    parts = reader.end()
    assert not reader.done
    assert not [part for part in parts if isinstance(part, Finish)]
    assert position.resumable
    assert position.id == "resp_1"


@pytest.mark.parametrize("status", ["completed", "in_progress", None])
@pytest.mark.parametrize("ending", ["failed", "cancelled"])
def test_a_run_whose_last_event_is_a_failure_has_failed_whatever_its_status_is(ending: str, status: str | None) -> None:
    last = {"type": f"response.{ending}", "response": {"id": "resp_1", "status": status, "output": []}}
    with pytest.raises(CallError) as raised:
        read(numbered(CREATED, text("Half"), last))
    assert raised.value.code == "provider"


def test_a_run_whose_last_event_is_incomplete_does_not_stop_whatever_its_status_is() -> None:
    response = {"id": "resp_1", "status": "completed", "incomplete_details": {"reason": "max_output_tokens"}}
    parts = read(numbered(CREATED, text("Half"), {"type": "response.incomplete", "response": response}))
    assert parts[-1] == Finish(0, "length", "max_output_tokens")


def test_a_run_that_goes_on_without_sequence_numbers_is_cut_and_repeats_no_text() -> None:
    position = Position()
    ResponseReader(position).feed(framed(numbered(CREATED, text("Hello"))))
    again = ResponseReader(position)
    assert content(again.feed(framed([CREATED, text("Hello"), text(" world"), DONE]))) == ""
    assert again.failure is not None
    assert again.failure.code == "truncated"
    assert not position.resumable


def test_a_text_of_which_a_skipped_event_is_missing_is_cut() -> None:
    whole = [{"type": "message", "content": [{"type": "output_text", "text": "Hello world"}]}]
    last = {"type": "response.completed", "response": DONE["response"] | {"output": whole}}
    events = numbered(CREATED, text("Hello"), text(" world"), last)
    with pytest.raises(CallError) as raised:
        read([events[0], *events[2:]])
    assert raised.value.code == "truncated"
