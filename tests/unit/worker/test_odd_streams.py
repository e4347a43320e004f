"""Streams as providers really send them: framing, error events in many forms, ends, bounds, and wrong types."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from railstream.errors import CallError
from railstream_engine.providers.anthropic.events import MessageReader
from railstream_engine.providers.google.events import ContentReader
from railstream_engine.providers.http.event_lines import MOST_BYTES, EventLines
from railstream_engine.providers.openai.events import ChunkReader
from railstream_engine.providers.openai_responses.parts import token_count as of_run
from railstream_engine.providers.port import Delta, Finish, Part, TokenCount

READERS = pytest.mark.parametrize("make", [ChunkReader, MessageReader, ContentReader])


def event(delta: object, **choice: object) -> bytes:
    return sse({"id": "r1", "model": "m-1", "choices": [{"index": 0, "delta": delta, **choice}]})


def sse(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def text(parts: list[Part]) -> str:
    return "".join(part.content for part in parts if isinstance(part, Delta))


STREAM = event({"content": "one "}) + event({"content": "two"}) + event({}, finish_reason="stop") + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"\xef\xbb\xbf" + STREAM, id="byte order mark"),
        pytest.param(STREAM.replace(b"\n", b"\r"), id="CR"),
        pytest.param(STREAM.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(b": hello\n\n" + STREAM.replace(b"\n\n", b"\n\n: beat\n\n"), id="comments"),
        pytest.param(STREAM.replace(b"\n\n", b"\n\ndata: : keepalive\n\n"), id="comments as data"),
        pytest.param(STREAM.replace(b"data:", b"id: 7\nretry: 10\nevent: message\ndata:"), id="fields"),
        pytest.param(STREAM.replace(b"data: ", b"data:"), id="no space"),
        pytest.param(STREAM.replace(b"\n\n", b"\n\nevent: ping\ndata: {}\n\n", 1), id="ping"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_stream_is_read_as_the_standard_of_its_events_says(stream: bytes, size: int) -> None:
    reader, parts = ChunkReader(), []
    for at in range(0, len(stream), size):
        parts += reader.feed(stream[at : at + size])
    reader.end()
    assert reader.done
    assert text(parts) == "one two"
    assert [part for part in parts if isinstance(part, Finish)] == [Finish(0, "stop", "stop")]


ERRORS = [
    sse({"object": "error", "message": "boom", "type": "BadRequestError", "code": 400}),
    b'event: error\ndata: {"message":"boom"}\n\n',
    b"event: error\ndata: boom\n\n",
    b'event: error\ndata: {"choices":[],"message":"boom"}\n\n',
    b'error: {"code":500,"message":"boom","type":"server_error"}\n\n',
    sse({"detail": "boom"}),
    sse({"detail": [{"msg": "boom"}]}),
    sse({"message": "boom", "code": 500}),
    sse({"type": "error", "message": "boom"}),
    sse({"type": "error", "error": {"type": "overloaded_error", "message": "boom"}}),
    sse({"error": "boom"}),
    sse([{"error": {"message": "boom", "code": 503}}]),
]


@READERS
@pytest.mark.parametrize("error", ERRORS)
def test_an_event_that_says_error_is_one_in_every_form(make: Callable[[], EventLines], error: bytes) -> None:
    with pytest.raises(CallError):
        make().feed(error)


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_after_text_follows_the_text_and_no_end_signal_hides_it(error: bytes) -> None:
    reader = ChunkReader()
    assert text(reader.feed(event({"content": "a"}) + error + b"data: [DONE]\n\n")) == "a"
    with pytest.raises(CallError):
        reader.end()


def test_a_finish_reason_that_is_not_known_passes_as_it_is() -> None:
    assert Finish(0, "abort", "abort") in ChunkReader().feed(event({"content": "a"}, finish_reason="abort"))
    parts = MessageReader().feed(sse({"type": "message_delta", "delta": {"stop_reason": "abort"}}))
    assert Finish(0, "abort", "abort") in parts


def test_an_end_signal_with_nothing_before_it_is_an_error() -> None:
    reader = ChunkReader()
    reader.feed(b"data: [DONE]\n\n")
    with pytest.raises(CallError, match="nothing in it"):
        reader.end()


def test_one_completion_object_in_place_of_a_stream_is_read_as_the_answer() -> None:
    message = {"role": "assistant", "content": "plain", "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    body = json.dumps({"id": "r", "model": "m", "choices": [choice], "usage": usage}, indent=1).encode()
    reader = ChunkReader()
    parts = [part for at in range(0, len(body), 9) for part in reader.feed(body[at : at + 9])] + reader.end()
    assert text(parts) == "plain"
    assert Finish(0, "stop", "stop") in parts
    assert [part.output_tokens for part in parts if isinstance(part, TokenCount)] == [4]
    assert reader.complete
    assert reader.end() == []


def test_an_error_object_in_place_of_a_stream_is_the_error() -> None:
    reader = ChunkReader()
    reader.feed(b'{"error": {"message": "slow down", "type": "rate_limit_error"}}')
    with pytest.raises(CallError) as caught:
        reader.end()
    assert caught.value.code == "rate_limited"


@READERS
def test_a_line_without_an_end_is_cut_off_at_a_bound(make: Callable[[], EventLines]) -> None:
    reader = make()
    for _ in range(MOST_BYTES // 65536):
        reader.feed(b"x" * 65536)
    with pytest.raises(CallError, match="a line of 8,388,609 bytes; at most 8,388,608 are read") as caught:
        reader.feed(b"x")
    assert caught.value.code == "provider"


@READERS
def test_an_event_of_many_lines_is_cut_off_at_a_bound(make: Callable[[], EventLines]) -> None:
    reader = make()
    line = b"data: " + b"x" * 65530 + b"\n"
    for _ in range(MOST_BYTES // 65536):
        reader.feed(line)
    with pytest.raises(CallError, match=r"an event of 8,454,144 bytes; at most 8,388,608 are read"):
        reader.feed(line)


@READERS
@pytest.mark.parametrize("depth", [129, 950, 100_000])
@pytest.mark.parametrize("inner", [b'{"a":', b"["])
def test_json_that_is_nested_deeply_is_an_error_of_the_provider(
    make: Callable[[], EventLines], depth: int, inner: bytes
) -> None:
    close = b"}" if inner[:1] == b"{" else b"]"
    data = b'{"choices":[{"delta":{"x":' + inner * depth + b"1" + close * depth + b"}}]}"
    with pytest.raises(CallError, match="nested deeper than 128 levels") as caught:
        make().feed(b"data: " + data + b"\n\n")
    assert caught.value.code == "provider"


def test_brackets_inside_a_text_are_no_nesting() -> None:
    said = '[{"' * 5000
    assert text(ChunkReader().feed(event({"content": said}))) == said


@pytest.mark.parametrize("index", [-1, 128, 2_000_000])
def test_a_choice_index_that_nobody_can_ask_for_is_an_error_of_the_provider(index: int) -> None:
    with pytest.raises(CallError, match=f"index {index}; at most 128"):
        ChunkReader().feed(sse({"choices": [{"index": index, "delta": {"content": "a"}}]}))


USAGES: list[Any] = [
    {"prompt_tokens": "many"}, {"prompt_tokens": -1}, {"prompt_tokens": 1.5}, {"prompt_tokens": True},
    {"completion_tokens": 10**30}, {"prompt_tokens_details": 5}, {"completion_tokens_details": ["x"]},
    {"prompt_tokens": 1, "completion_tokens_details": {"reasoning_tokens": "x"}}, "many", [1],
]  # fmt: skip
WRONG: list[tuple[Callable[[], EventLines], object]] = [
    *((ChunkReader, {"choices": [], "usage": usage}) for usage in USAGES),
    *(
        (ChunkReader, {"choices": [{"delta": delta}]})
        for delta in (
            {"content": 5},
            {"content": {"a": 1}},
            {"content": True},
            {"reasoning": 5},
            {"tool_calls": ["x"]},
            {"tool_calls": 5},
            {"tool_calls": {"index": 0}},
            {"tool_calls": [{"index": "0"}]},
            {"tool_calls": [{"index": 99999}]},
            {"tool_calls": [{"id": 5}]},
            {"tool_calls": [{"function": "f"}]},
            {"tool_calls": [{"function": {"name": 5}}]},
            {"tool_calls": [{"function": {"arguments": 5}}]},
            5,
            "text",
            [1],
        )
    ),
    (ChunkReader, {"choices": 5}),
    (ChunkReader, {"choices": [5]}),
    (ChunkReader, {"choices": [{"index": "0"}]}),
    (ChunkReader, {"choices": [{"delta": {}, "finish_reason": 5}]}),
    (ChunkReader, {"choices": [{"delta": {}}], "id": 5}),
    (ChunkReader, {"x_groq": {"usage": 5}}),
    (ChunkReader, {"x_groq": 5}),
    (MessageReader, {"type": 5}),
    (MessageReader, {"type": "content_block_delta", "delta": {"type": "text_delta", "text": 5}}),
    (MessageReader, {"type": "message_delta", "usage": {"output_tokens": "many"}}),
    (MessageReader, {"type": "message_delta", "usage": {"output_tokens_details": 5}}),
    (MessageReader, {"type": "message_start", "message": "x"}),
    (ContentReader, {"candidates": 5}),
    (ContentReader, {"candidates": [{"index": 5000}]}),
    (ContentReader, {"candidates": [{"content": {"parts": [{"text": 5}]}}]}),
    (ContentReader, {"usageMetadata": {"promptTokenCount": "many"}}),
    (ContentReader, {"usageMetadata": 5}),
]


@pytest.mark.parametrize(("make", "data"), WRONG)
def test_a_field_of_another_type_is_an_error_of_the_provider(make: Callable[[], EventLines], data: object) -> None:
    with pytest.raises(CallError) as caught:
        make().feed(sse(data))
    assert caught.value.code == "provider"
    assert "many" not in str(caught.value)


def counts(*usages: dict[str, Any], **options: bool) -> list[tuple[int, int, int]]:
    reader = ChunkReader(**options)
    parts = [part for usage in usages for part in reader.feed(sse({"choices": [], "usage": usage}))]
    return [(p.input_tokens, p.output_tokens, p.reasoning_tokens) for p in parts if isinstance(p, TokenCount)]


def test_reasoning_beside_the_output_is_counted_into_it() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 40}}
    beside = {"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 54, **details}
    assert counts(beside) == [(12, 42, 40)]
    assert counts({"prompt_tokens": 12, "completion_tokens": 2, **details}) == [(12, 42, 40)]
    assert counts({"prompt_tokens": 12, "completion_tokens": 42, "total_tokens": 54, **details}) == [(12, 42, 40)]


def test_a_later_usage_of_zeros_does_not_overwrite_a_real_one() -> None:
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert counts({"prompt_tokens": 5, "completion_tokens": 7}, zeros)[-1] == (5, 7, 0)
    reader = MessageReader()
    reader.feed(sse({"type": "message_start", "message": {"usage": {"input_tokens": 9}}}))
    last = reader.feed(sse({"type": "message_delta", "usage": {"input_tokens": 0, "output_tokens": 4}}))[-1]
    assert isinstance(last, TokenCount)
    assert (last.input_tokens, last.output_tokens) == (9, 4)


def test_an_answer_is_whole_with_its_finish_reasons_and_the_usage_that_was_asked_for() -> None:
    reader = ChunkReader(choices=2, expects_usage=True)
    reader.feed(event({"content": "a"}) + event({}, finish_reason="stop"))
    assert not reader.whole
    reader.feed(event({"content": "a"}, index=1) + event({}, index=1, finish_reason="stop"))
    assert reader.complete
    assert not reader.whole
    reader.feed(sse({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}))
    assert reader.whole


@pytest.mark.parametrize("delta", [{"role": "assistant", "content": ""}, {}, {"content": None}])
def test_an_end_signal_after_nothing_but_who_speaks_is_an_error(delta: object) -> None:
    reader = ChunkReader()
    reader.feed(event(delta) + b"data: [DONE]\n\n")
    with pytest.raises(CallError, match="nothing in it"):
        reader.end()


def call_of_f(arguments: str) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": function}]}


def test_an_end_signal_within_the_arguments_of_a_tool_call_is_an_error() -> None:
    reader = ChunkReader()
    reader.feed(event(call_of_f('{"a":')) + b"data: [DONE]\n\n")
    with pytest.raises(CallError, match="arguments") as raised:
        reader.end()
    assert raised.value.code == "truncated"


@pytest.mark.parametrize("arguments", ["", "{}", '{"a":1}'])
def test_an_end_signal_after_a_whole_tool_call_without_a_finish_reason_ends_with_tool_calls(arguments: str) -> None:
    reader = ChunkReader()
    reader.feed(event(call_of_f(arguments)) + b"data: [DONE]\n\n")
    assert reader.end() == [Finish(0, "tool_calls", "tool_calls")]
    assert reader.end() == []


def test_a_body_that_ends_when_one_of_two_choices_has_finished_and_the_other_has_not_begun_is_cut() -> None:
    reader = ChunkReader(choices=2)
    reader.feed(event({"content": "a"}, finish_reason="stop"))
    reader.end()
    assert not reader.complete


@pytest.mark.parametrize(("cached", "written", "prompt"), [(4, 1, 5), (50, 0, 55), (0, 7, 12), (3, 3, 11)])
def test_cached_tokens_that_are_more_than_the_prompt_were_counted_beside_it(
    cached: int, written: int, prompt: int
) -> None:
    # As they stood, the rest of the prompt was less than nothing, and so was its price.
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    given = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "prompt_tokens_details": details}
    tokens = ChunkReader().feed(sse({"choices": [], "usage": given}))[-1]
    assert isinstance(tokens, TokenCount)
    assert (tokens.input_tokens, tokens.cached_input_tokens, tokens.output_tokens) == (prompt, cached, 3)
    assert (tokens.raw["prompt_tokens"], tokens.raw["total_tokens"]) == (prompt, prompt + 3)
    run = {"input_tokens": 5, "output_tokens": 3, "input_tokens_details": details}
    assert of_run(run).input_tokens == prompt
    assert of_run({**run, "output_tokens_details": {"reasoning_tokens": 9}}).output_tokens == 12
