"""A chunk that is read by the template of the one before says what it says when it is read whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness.examples import examples
from hypothesis import given
from hypothesis import strategies as st
from railstream.errors import CallError
from railstream_engine.providers.openai.chunk_template import PATIENCE, ChunkTemplate
from railstream_engine.providers.openai.events import ChunkReader
from railstream_engine.providers.port import Delta


def event(content: str, *, compact: bool = True, **more: Any) -> bytes:
    delta = {"content": content} | more.pop("delta", {})
    chunk = {"id": "r", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} | more
    separators = (",", ":") if compact else None
    return b"data: " + json.dumps(chunk, ensure_ascii=not compact, separators=separators).encode() + b"\n\n"


class Whole(ChunkReader):
    """Reads every chunk whole."""

    def __init__(self) -> None:
        super().__init__()
        self._template._patience = 0


def said(reader: ChunkReader, data: bytes) -> object:
    try:
        return reader.feed(data)
    except CallError as error:
        return error.code


def delta_of(content: str, raw: bytes) -> Delta:
    return Delta(0, raw, content, exact=True)


def test_content_alone_is_read_once_a_chunk_was_read_whole() -> None:
    reader = ChunkReader()
    reader.feed(event("one"))
    template = reader._template
    assert template.read(event(" two")) == delta_of(" two", b'{"content":" two"}')
    assert template.read(event("Grüße 東京")) == delta_of("Grüße 東京", '{"content":"Grüße 東京"}'.encode())
    assert template.read(event('a "b" \\ \n')) == delta_of('a "b" \\ \n', rb'{"content":"a \"b\" \\ \n"}')


def test_a_role_beside_it_and_spaces_between_are_kept_as_they_are() -> None:
    reader = ChunkReader()
    reader.feed(event("one", compact=False, delta={"role": "assistant"}))
    second = event("two", compact=False, delta={"role": "assistant"})
    assert reader._template.read(second) == delta_of("two", b'{"content": "two", "role": "assistant"}')


@pytest.mark.parametrize(
    "data",
    [
        event("x", usage={"prompt_tokens": 1}),
        event("x", model="other"),
        event("x", delta={"role": "assistant"}),
        event("x", delta={"annotations": ["?"]}),
        event(""),
        event("x") + event("y"),
        event("x").replace(b'"x"', b'"x","refusal":"no"'),
        event("x").replace(b'"x"', b'"x"\n'),
        event("x").replace(b"\n", b"\r\n"),
        event("x")[:-1],
        b"data: [DONE]\n\n",
    ],
)
def test_a_chunk_that_says_anything_else_is_read_whole(data: bytes) -> None:
    reader = ChunkReader()
    reader.feed(event("one"))
    assert reader._template.read(data) is None


@pytest.mark.parametrize(
    "more",
    [
        {"usage": {"prompt_tokens": 1}},
        {"delta": {"refusal": "no"}},
        {"delta": {"annotations": ["?"]}},
        {"note": {"content": "one"}},
        {"delta": {"x": {"content": "one"}}},
    ],
)
def test_a_chunk_that_says_more_than_content_is_no_template(more: dict[str, Any]) -> None:
    reader = ChunkReader()
    reader.feed(event("one", **more))
    assert reader._template.read(event("two", **more)) is None


def test_a_provider_whose_chunks_always_differ_is_soon_left_alone() -> None:
    reader = ChunkReader()
    for number in range(PATIENCE):
        reader.feed(event("x", obfuscation=f"{number}."))
    assert reader._template._head is not None
    for number in range(PATIENCE, 2 * PATIENCE):
        reader.feed(event("x", obfuscation=f"{number}."))
        assert reader._template.read(event("y", obfuscation=f"{number}.")) is None


def test_one_whose_chunks_differ_now_and_then_is_not() -> None:
    reader = ChunkReader()
    for second in range(3 * PATIENCE):
        reader.feed(event("x", created=second))
        assert reader._template.read(event("y", created=second)) is not None


CONTENTS = st.one_of(
    st.sampled_from(
        ["", "a", " b", '"', "\\", '"}', "\n", "é", "😀", "\u2028", '"},"finish_reason":"stop"', '{"content":"x"}']
    ),
    st.text(max_size=5),
)
EXTRAS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        *([{}] * 6),
        {"created": 7},
        {"usage": {"prompt_tokens": 2, "completion_tokens": 1}},
        {"note": {"content": "a"}},
        {"delta": {"role": "assistant"}},
        {"delta": {"reasoning_content": "hm"}},
        {"delta": {"unknown": 1}},
        {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "a"}}]}},
        {"choices": []},
        {"error": {"message": "m"}},
    ]
)
SPLICES = st.sampled_from(
    [(b"", b"")] * 8
    + [
        (b'"index":0', b'"index":1'),
        (b'"finish_reason":null', b'"finish_reason":"stop"'),
        (b'"}', b'\x00"}'),
        (b'"}', b'\n"}'),
        (b'"}', b'\xff"}'),
        (b'"}', b'\\ud83d"}'),
        (b'"}', b'","content":"b"}'),
        (b'"}', b'"\n}'),
        (b"\n\n", b"\r\n\r\n"),
        (b"\n\n", b"\n"),
        (b"\n\n", b"\n\ndata: [DONE]\n\n"),
        (b'"content":', b'"content" :'),
    ]
)
EVENTS = st.builds(
    lambda content, compact, extra, splice: event(content, compact=compact, **extra).replace(*splice, 1),
    CONTENTS,
    st.sampled_from([True, True, True, False]),
    EXTRAS,
    SPLICES,
)


@examples(2000)
@given(st.lists(EVENTS, min_size=2, max_size=8))
def test_it_never_reads_anything_that_is_not_there(events: list[bytes]) -> None:
    quick, whole = ChunkReader(), Whole()
    for data in events:
        assert said(quick, data) == said(whole, data)
        assert (quick.done, quick.complete, quick._rest) == (whole.done, whole.complete, whole._rest)


def test_most_chunks_of_a_plain_stream_go_this_way(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Delta | None] = []

    class Counting(ChunkTemplate):
        def read(self, data: bytes) -> Delta | None:
            read.append(super().read(data))
            return read[-1]

    monkeypatch.setattr("railstream_engine.providers.openai.events.ChunkTemplate", Counting)
    reader = ChunkReader()
    for number in range(50):
        reader.feed(event(f"word{number} "))
    assert sum(delta is not None for delta in read) == 49
