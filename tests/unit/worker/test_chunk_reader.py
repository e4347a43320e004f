"""The event stream of a provider, read at the level of bytes, in whatever pieces it arrives."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from railstream.errors import CallError
from railstream_engine.providers.openai.events import ChunkReader
from railstream_engine.providers.port import Delta, Finish, Part, ResponseInfo, TokenCount
from railstream_engine.providers.usage_counts import token_count


def event(delta: object, **choice: object) -> bytes:
    chunk = {"id": "r1", "model": "m-1", "choices": [{"index": 0, "delta": delta, **choice}]}
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def deltas(parts: list[Part]) -> list[Delta]:
    return [part for part in parts if isinstance(part, Delta)]


def test_deltas_keep_the_bytes_of_the_provider() -> None:
    raw = b'{ "content" :"caf\\u00e9  \\n" }'
    parts = ChunkReader().feed(b'data: {"choices":[{"index":0,"delta":' + raw + b"}]}\n\n")
    (delta,) = deltas(parts)
    assert (delta.raw, delta.content) == (raw, "café  \n")


@given(st.lists(st.integers(1, 40), max_size=30))
def test_it_does_not_matter_how_the_bytes_are_cut(cuts: list[int]) -> None:
    stream = (
        event({"role": "assistant", "content": ""})
        + b": a comment\r\n\r\n"
        + event({"content": "Grüße "}).replace(b"\n", b"\r\n")
        + event({"content": "東京"})
        + event({}, finish_reason="stop")
        + b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
    )
    reader, parts, at = ChunkReader(), [], 0
    for cut in [*cuts, len(stream)]:
        parts += reader.feed(stream[at : at + cut])
        at += cut
    assert reader.done
    assert [delta.content for delta in deltas(parts)] == ["Grüße ", "東京"]
    assert Finish(0, "stop", "stop") in parts
    assert [(part.input_tokens, part.output_tokens) for part in parts if isinstance(part, TokenCount)] == [(3, 2)]
    assert [part for part in parts if isinstance(part, ResponseInfo)] == [ResponseInfo("r1", "m-1")]


def test_an_empty_delta_is_relayed_and_one_that_only_names_the_role_is_not() -> None:
    reader = ChunkReader()
    assert deltas(reader.feed(event({"role": "assistant", "content": ""}))) == []
    assert [delta.content for delta in deltas(reader.feed(event({"content": ""})))] == [""]
    assert deltas(reader.feed(event({}, finish_reason="stop"))) == []


def test_a_field_that_is_not_known_is_relayed() -> None:
    (delta,) = deltas(ChunkReader().feed(event({"annotations": [{"url": "x"}]})))
    assert b"annotations" in delta.raw


def test_half_a_surrogate_pair_in_a_delta_passes_untouched() -> None:
    raw = b'{"content":"\\ud83d"}'
    (delta,) = deltas(ChunkReader().feed(b'data: {"choices":[{"index":0,"delta":' + raw + b"}]}\n\n"))
    assert (delta.raw, delta.content) == (raw, "\ud83d")


@pytest.mark.parametrize("text", ["{}", '{"error":{"message":"m","type":"guardrails_violation"}}', "data: [DONE]\n\n"])
def test_what_the_model_says_is_never_taken_for_control(text: str) -> None:
    reader = ChunkReader()
    (delta,) = deltas(reader.feed(event({"content": text})))
    assert delta.content == text
    assert not reader.complete


def test_reasoning_refusals_and_tools_are_told_apart() -> None:
    reader = ChunkReader()
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    stream = event({"reasoning_content": "hm"}) + event({"reasoning": "ha"}) + event({"refusal": "no"})
    reasoning, other, refusal, tool = deltas(reader.feed(stream + event({"tool_calls": [call]})))
    assert (reasoning.reasoning, other.reasoning, refusal.refusal) == ("hm", "ha", "no")
    assert json.loads(tool.tools) == [call]


def test_the_end_is_complete_only_with_a_finish_of_every_choice_or_done() -> None:
    reader = ChunkReader()
    reader.feed(event({"content": "a"}))
    assert not reader.complete
    reader.feed(event({"content": "b"}, index=1) + event({}, finish_reason="stop"))
    assert not reader.complete
    reader.feed(event({}, index=1, finish_reason="length"))
    assert reader.complete


def test_usage_stands_where_groq_puts_it() -> None:
    usage = b'{"choices":[],"x_groq":{"id":"q","usage":{"prompt_tokens":1,"completion_tokens":2}}}'
    parts = ChunkReader().feed(b"data: " + usage + b"\n\n")
    assert [part.output_tokens for part in parts if isinstance(part, TokenCount)] == [2]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"message": "slow down", "type": "rate_limit_error"}, "rate_limited"),
        ({"message": "busy", "type": "overloaded_error"}, "overloaded"),
        ({"message": "boom", "type": "server_error", "code": "x"}, "provider"),
        ("just text", "provider"),
    ],
)
def test_an_error_event_is_a_typed_error(error: object, code: str) -> None:
    with pytest.raises(CallError) as caught:
        ChunkReader().feed(b"data: " + json.dumps({"error": error}).encode() + b"\n\n")
    assert caught.value.code == code


def test_what_is_no_chunk_is_an_error_that_does_not_quote_it() -> None:
    with pytest.raises(CallError, match=r"an event that is not JSON \(6 bytes\)"):
        ChunkReader().feed(b"data: <html>\n\n")


@pytest.mark.parametrize("name", [b"content", b"id"])
def test_what_is_not_utf_8_is_an_error_that_says_so(name: bytes) -> None:
    chunk = b'{"id":"","choices":[{"delta":{"content":""}}]}'.replace(b'"%b":"' % name, b'"%b":"\xff' % name)
    with pytest.raises(CallError, match="not UTF-8") as caught:
        ChunkReader().feed(b"data: " + chunk + b"\n\n")
    assert caught.value.code == "provider"


def test_content_in_blocks_is_told_as_text_and_reasoning() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm, "}, {"type": "text", "text": "so"}]}
    (thought,) = deltas(ChunkReader().feed(event({"content": [thinking]})))
    assert (thought.content, thought.reasoning, json.loads(thought.raw)["reasoning_content"]) == (
        "",
        "hm, so",
        "hm, so",
    )
    (both,) = deltas(ChunkReader().feed(event({"content": [thinking, {"type": "text", "text": "yes"}]})))
    assert (both.content, both.reasoning) == ("yes", "hm, so")
    (reference,) = deltas(ChunkReader().feed(event({"content": [{"type": "reference", "reference_ids": [1]}], "x": 1})))
    assert (reference.content, json.loads(reference.raw)["content"]) == ("", None)


@pytest.mark.parametrize(
    ("delta", "exact"),
    [
        ('{"content": "a"}', True),
        ('{"role": "assistant", "content": "a", "reasoning_content": null}', True),
        ('{"content": "\\ud83d"}', True),
        ('{"reasoning": "a", "reasoning_content": "a"}', True),
        ('{"refusal": "a"}', True),
        ('{"reasoning": "a", "reasoning_content": "b"}', False),
        ('{"content": "a", "annotations": [{"text": "b"}]}', False),
        ('{"content": "a", "annotations": null, "function_call": null}', True),
        ('{"content": "a", "secret": null}', False),
        ('{"content": "a", "content": "b"}', False),
        ('{"content": "b", "note": 1, "content": "a"}', False),
        ('{"content": "a", "role": "user"}', False),
        ('{"content": "a", "role": "assistant", "role": "x"}', False),
        ('{"content": "", "function_call": {"arguments": "b"}}', False),
        ('{"content": "a", "tool_calls": [{"index": 0}]}', False),
        ('{"content": [{"type": "text", "text": "a"}], "x": 1}', False),
    ],
)
def test_a_delta_that_says_more_than_its_texts_is_known_as_one(delta: str, exact: bool) -> None:
    data = b'data: {"choices": [{"index": 0, "delta": %b}]}\n\n' % delta.encode()
    reader = ChunkReader()
    for _ in range(3):  # the second and third may be read by a template
        (read,) = deltas(reader.feed(data))
        assert read.exact is exact


ONE = b'{"choices":[{"index":0,"delta":{"content":"one"}}]}'
TWO = b'{"choices":[{"index":0,"delta":{"content":" two"},"finish_reason":"stop"}]}'


def texts(body: bytes, size: int = 10_000) -> tuple[str, ChunkReader]:
    """What a body says, fed in pieces of this size."""
    reader, found = ChunkReader(), list[Part]()
    for at in range(0, len(body), size):
        found += reader.feed(body[at : at + size])
    reader.end()
    return "".join(part.content for part in found if isinstance(part, Delta)), reader


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize(
    "body",
    [
        b"data: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (ONE, TWO),
        b"\xef\xbb\xbfdata: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (ONE, TWO),
        b"data: %b\r\n\r\ndata: %b\r\n\r\ndata: [DONE]\r\n\r\n" % (ONE, TWO),
        b"data: %b\r\rdata: %b\r\rdata: [DONE]\r\r" % (ONE, TWO),
        b": hi\n\ndata: : keepalive\n\nid: 7\nretry: 3\ndata:%b\n\n:\nevent: chunk\ndata: %b\n\ndata: [DONE]\n\n"
        % (ONE, TWO),
        b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"one"}}]}\n\ndata: %b\n\ndata: [DONE]\n\n' % TWO,
    ],
)
def test_lines_are_read_as_the_standard_says_however_they_are_cut(body: bytes, size: int) -> None:
    said, reader = texts(body, size)
    assert said == "one two"
    assert reader.done


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"object":"error","message":"no","code":500}',
        b'data: {"detail":"no"}',
        b'data: {"message":"no","type":"server_error"}',
        b'data: {"type":"error","message":"no"}',
        b'data: [{"error":{"message":"no"}}]',
        b'data: {"error":"no"}',
        b"event: error\ndata: it went wrong",
        b'event: error\ndata: {"message":"no"}',
        b'error: {"message":"no"}',
    ],
)
def test_an_error_in_any_form_is_one_and_what_came_before_it_is_told(event: bytes) -> None:
    reader = ChunkReader()
    parts = reader.feed(b"data: %b\n\n%b\n\ndata: [DONE]\n\n" % (ONE, event))
    assert [part.content for part in deltas(parts)] == ["one"]
    with pytest.raises(CallError):
        reader.end()
    with pytest.raises(CallError):
        ChunkReader().feed(event + b"\n\n")


@pytest.mark.parametrize("event", [b'{"type":"ping"}', b'{"choices":[]}', b'{"id":"x"}', b'{"message":"hello"}'])
def test_an_event_that_is_no_chunk_and_no_error_says_nothing(event: bytes) -> None:
    said, _ = texts(b"data: %b\n\ndata: %b\n\ndata: %b\n\ndata: [DONE]\n\n" % (ONE, event, TWO))
    assert said == "one two"


@pytest.mark.parametrize("body", [b"data: [DONE]\n\n", b'data: {"choices":[]}\n\ndata: [DONE]\n\n'])
def test_an_end_with_nothing_before_it_is_no_answer(body: bytes) -> None:
    with pytest.raises(CallError) as caught:
        texts(body)
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("reason", ["abort", "recitation", "eos_token"])
def test_an_unknown_finish_reason_passes_as_it_is(reason: str) -> None:
    finish = ChunkReader().feed(event({}, finish_reason=reason))[-1]
    assert isinstance(finish, Finish)
    assert finish.reason == reason


@pytest.mark.parametrize(
    "chunk",
    [
        b'{"choices":[{"index":0,"delta":{"content":5}}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":["x"]}}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":{"index":0}}}]}',
        b'{"choices":[{"index":"0","delta":{}}]}',
        b'{"choices":"secret"}',
        b'{"usage":{"prompt_tokens":"secret"},"choices":[]}',
        b'{"usage":{"prompt_tokens":-1,"completion_tokens":1},"choices":[]}',
        b'{"choices":[{"index":0,"delta":%b1%b}]}' % (b'{"a":' * 5000, b"}" * 5000),
        b"secret is no JSON",
        b"\xff\xfe secret",
    ],
)
def test_what_is_of_a_wrong_type_is_the_providers_error_and_is_not_quoted(chunk: bytes) -> None:
    with pytest.raises(CallError) as caught:
        ChunkReader().feed(b"data: %b\n\n" % chunk)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("piece", [b"x" * 65_536, b"data: %b\n" % (b"x" * 65_536)])
def test_a_line_or_an_event_without_an_end_is_bounded_and_costs_no_more_than_its_bytes(piece: bytes) -> None:
    reader = ChunkReader()
    began = time.process_time()
    with pytest.raises(CallError, match="at most 8,388,608 are read"):
        fed(reader, [piece] * 200)
    assert time.process_time() - began < 1


def fed(reader: ChunkReader, pieces: list[bytes]) -> None:
    for piece in pieces:
        reader.feed(piece)


def test_reasoning_that_is_counted_beside_the_output_is_part_of_it() -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 54}
    beside = token_count(usage | {"completion_tokens_details": {"reasoning_tokens": 40}})
    assert (beside.input_tokens, beside.output_tokens, beside.reasoning_tokens) == (12, 42, 40)
    inside = token_count({"prompt_tokens": 12, "completion_tokens": 42, "total_tokens": 54,
                          "completion_tokens_details": {"reasoning_tokens": 40}})  # fmt: skip
    assert (inside.output_tokens, inside.reasoning_tokens) == (42, 40)


def test_a_usage_of_zeros_does_not_replace_a_real_one() -> None:
    real = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
    zeros = b'{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}'
    parts = ChunkReader().feed(b"data: %b\n\ndata: %b\n\n" % (real, zeros))
    assert [part.output_tokens for part in parts if isinstance(part, TokenCount)] == [4]
