"""The OpenAI view: bytes in, bytes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from railstream import events
from railstream.events import Event
from railstream.ids import EventId
from railstream_gateway.stream.relay import Gap
from railstream_gateway.views.native import NativeView
from railstream_gateway.views.openai.frames import OpenAIView, one_line

STARTED = events.Started(id="chatcmpl-1", model='m "quoted"', created=7)


def event(id: str, payload: events.Payload) -> Event:
    attempt, seq = map(int, id.split("-"))
    return Event(EventId(attempt, seq), *events.encode(payload))


def chunk(id: str, data: bytes, choice: bytes = b"") -> Event:
    attempt, seq = map(int, id.split("-"))
    return Event(EventId(attempt, seq), events.CHUNK, data, choice)


def blocks(frames: bytes) -> list[tuple[str, Any]]:
    """``(id, JSON)`` of every frame."""
    found = []
    for block in frames.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        data = fields["data"]
        found.append((fields.get("id", ""), data if data == "[DONE]" else json.loads(data)))
    return found


def test_the_role_waits_for_the_first_chunk_and_yields_to_the_providers_own() -> None:
    view = OpenAIView()
    assert view.frames([event("1-0", STARTED)]) == b""
    assert [id for id, _ in blocks(view.frames([chunk("1-1", b'{"content":"a"}')]))] == ["1-0", "1-1"]
    view = OpenAIView()
    frames = blocks(view.frames([event("1-0", STARTED), chunk("1-1", b'{"role":"assistant","content":""}')]))
    assert [id for id, _ in frames] == ["1-1"]


@pytest.mark.parametrize("text", ["role", '"role":', '{"role":"assistant"}'])
def test_a_text_that_looks_like_a_role_is_none(text: str) -> None:
    view = OpenAIView()
    frames = view.frames([event("1-0", STARTED), chunk("1-1", json.dumps({"content": text}).encode())])
    assert [id for id, _ in blocks(frames)] == ["1-0", "1-1"]


def test_usage_and_restarts_are_no_frames() -> None:
    usage = events.Usage(call="1.1", task="general", model="m", provider="p")
    view = OpenAIView()
    assert view.frames([event("1-0", STARTED), event("1-1", usage)]) == b""
    assert view.frames([event("2-0", events.Restarted(2, "1-1", "lease_expired"))]) == b""


def test_an_answer_without_a_word_still_begins_with_the_role() -> None:
    view = OpenAIView()
    frames = blocks(view.frames([event("1-0", STARTED), event("1-1", events.Finished(("stop",)))]))
    assert [id for id, _ in frames] == ["1-0", "1-1", ""]
    assert frames[0][1]["choices"][0]["delta"]["role"] == "assistant"
    assert frames[1][1]["choices"][0]["finish_reason"] == "stop"


def test_an_error_before_a_word_is_the_only_frame() -> None:
    view = OpenAIView()
    frames = blocks(view.frames([event("1-0", STARTED), event("1-1", events.Failed({"message": "no"}))]))
    assert frames == [("1-1", {"error": {"message": "no", "status": 500}}), ("", "[DONE]")]


def test_a_cancel_before_any_worker_needs_no_start() -> None:
    frames = blocks(OpenAIView().frames([event("0-1", events.Cancelled("request"))]))
    assert [id for id, _ in frames] == ["0-1", ""]


@pytest.mark.parametrize("skip", range(5))
def test_the_frames_of_an_ending_can_be_skipped_one_by_one(skip: int) -> None:
    started = events.Started(id="chatcmpl-1", model="m", created=7, include_usage=True)
    finished = event("1-5", events.Finished(("stop", "length", "stop"), usage={"total_tokens": 3}))
    view = OpenAIView(skip=skip)
    view.prime(event("1-0", started))
    assert view.frames_of_ending(finished) == 4
    assert [id for id, _ in blocks(view.frames([finished]))] == ["1-5", "1-6", "1-7", "1-8", ""][skip:]


@given(st.dictionaries(st.text(max_size=5), st.text()), st.sampled_from(["\n", "\r\n", "\r", ""]))
def test_any_json_survives_its_frame(delta: dict[str, str], line_break: str) -> None:
    data = json.dumps(delta, ensure_ascii=False).replace("{", "{" + line_break, 1).encode("utf-8", "surrogatepass")
    view = OpenAIView()
    view.prime(event("1-0", STARTED))
    frame = view.frames([chunk("1-1", data)])
    lines = frame.removesuffix(b"\n\n").split(b"\n")
    joined = b"\n".join(line.removeprefix(b"data: ") for line in lines[1:])
    assert frame.count(b"\n\n") == 1
    assert all(line.startswith(b"data: ") for line in lines[1:])
    assert json.loads(joined.decode("utf-8", "surrogatepass"))["choices"][0]["delta"] == delta


def test_plain_json_is_framed_as_it_is() -> None:
    data = b'{"content":"x"}'
    assert one_line(data) is data


def test_a_gap_says_what_was_asked_and_what_there_is() -> None:
    gap = Gap(EventId(1, 2), None, EventId(2, 10))
    [(id, body), done] = blocks(OpenAIView().gap(gap).replace(b"event: gap\n", b""))
    assert (id, done[1]) == ("", "[DONE]")
    assert body["gap"] == {"requested": "1-2", "earliest": None, "latest": "2-10"}
    assert body["error"]["code"] == "gap"


@pytest.mark.parametrize(
    ("earliest", "latest", "reason"),
    [(None, None, "lost"), ("1-0", "1-1", "lost"), ("1-3", "1-9", "trimmed"), ("1-0", "2-4", "restarted")],
)
def test_a_gap_knows_its_reason(earliest: str | None, latest: str | None, reason: str) -> None:
    def id(value: str | None) -> EventId | None:
        return EventId(*map(int, value.split("-"))) if value else None

    assert Gap(EventId(1, 2), id(earliest), id(latest)).reason == reason


def test_the_native_view_keeps_names_data_and_choices() -> None:
    frames = NativeView().frames([chunk("1-1", b'{"content":"a"}', b'{"index":1}')])
    assert frames == b'id: 1-1\nevent: chunk\nchoice: {"index":1}\ndata: {"content":"a"}\n\n'
