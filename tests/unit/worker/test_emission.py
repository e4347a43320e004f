"""Which bytes leave when guards release whole deltas, parts of them, and rewritten ones."""

from __future__ import annotations

import json
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from railstream_worker.emission import Emission
from railstream_worker.llm.port import Delta
from railstream_worker.rails.port import OutputGuard, Release


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.chunks: list[tuple[bytes, bytes]] = []

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        self.chunks.append((delta, choice))

    @property
    def text(self) -> str:
        return "".join(json.loads(delta).get("content", "") for delta, _ in self.chunks)


class ByHand:
    """A guard that releases when the test says so."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.seen = ""
        self.passing = False

    def prime(self, text: str) -> None:
        self.seen += text

    def passes(self, text: str) -> bool:
        if self.passing:
            self.seen += text
        return self.passing

    def push(self, text: str) -> None:
        self.seen += text

    async def finish(self) -> None: ...

    async def aclose(self) -> None: ...


def guarded(index: int = 0) -> tuple[Emission, Kept, dict[str, ByHand]]:
    guards: dict[str, ByHand] = {}

    def make(channel: str, release: Release) -> OutputGuard:
        guards[channel] = ByHand(release)
        return guards[channel]

    sink = Kept()
    return Emission(index, sink, make), sink, guards


def content(text: str) -> Delta:
    return Delta(0, json.dumps({"content": text}).encode(), text)


def unguarded(_: str, __: Release) -> None:
    return None


def test_without_a_guard_deltas_leave_at_once_in_their_own_bytes() -> None:
    sink = Kept()
    Emission(0, sink, unguarded).push(Delta(0, b'{ "content":  "x"}', "x"))
    assert sink.chunks == [(b'{ "content":  "x"}', b"")]


def test_a_delta_released_whole_leaves_in_its_own_bytes() -> None:
    emission, sink, guards = guarded()
    emission.push(Delta(0, b'{ "content":"ab"}', "ab"))
    emission.push(Delta(0, b'{ "content":"cd"}', "cd"))
    assert sink.chunks == []
    guards["content"].release(4, None)
    assert [delta for delta, _ in sink.chunks] == [b'{ "content":"ab"}', b'{ "content":"cd"}']


def test_a_delta_that_passes_leaves_at_once_in_its_own_bytes_but_never_before_one_that_is_held() -> None:
    emission, sink, guards = guarded()
    emission.push(content("held "))
    guards["content"].passing = True
    emission.push(content("behind "))
    assert sink.chunks == []
    guards["content"].release(12, None)
    raw = b'{ "content":  "passes"}'
    emission.push(Delta(0, raw, "passes"))
    assert [delta for delta, _ in sink.chunks] == [content("held ").raw, content("behind ").raw, raw]
    assert guards["content"].seen == "held behind passes"


def test_a_delta_released_in_part_is_split() -> None:
    emission, sink, guards = guarded()
    emission.push(content("hello sec"))
    guards["content"].release(6, None)
    guards["content"].release(3, None)
    assert [json.loads(delta)["content"] for delta, _ in sink.chunks] == ["hello ", "sec"]


def test_white_space_waits_for_the_word_behind_it() -> None:
    emission, sink, guards = guarded()
    emission.push(Delta(0, b'{ "content":" is"}', " is"))
    guards["content"].release(1, None)
    assert sink.chunks == []
    guards["content"].release(2, None)
    assert [delta for delta, _ in sink.chunks] == [b'{ "content":" is"}']


def test_white_space_that_waits_leaves_before_a_rewritten_word() -> None:
    emission, sink, guards = guarded()
    emission.push(content(" a@b.org"))
    guards["content"].release(1, None)
    guards["content"].release(7, "<EMAIL>")
    assert sink.text == " <EMAIL>"


def test_a_rewritten_text_takes_the_place_of_what_it_consumed() -> None:
    emission, sink, guards = guarded()
    for text in ("my mail is a@", "b.org", " ok"):
        emission.push(content(text))
    guards["content"].release(11, None)
    guards["content"].release(7, "<EMAIL>")
    guards["content"].release(3, None)
    assert sink.text == "my mail is <EMAIL> ok"


def test_a_rewrite_to_nothing_sends_no_frame() -> None:
    emission, sink, guards = guarded()
    emission.push(content("gone"))
    guards["content"].release(4, "")
    assert sink.chunks == []


def test_an_empty_delta_keeps_its_place() -> None:
    emission, sink, guards = guarded()
    emission.push(content("a"))
    emission.push(content(""))
    emission.push(content("b"))
    guards["content"].release(2, None)
    assert [json.loads(delta)["content"] for delta, _ in sink.chunks] == ["a", "", "b"]


def test_other_choices_and_logprobs_travel_beside_the_delta() -> None:
    sink = Kept()
    Emission(1, sink, unguarded).push(Delta(1, b'{"content":"x"}', "x", logprobs=b'{"content":[]}'))
    assert sink.chunks == [(b'{"content":"x"}', b'{"index":1,"logprobs":{"content":[]}}')]


def test_a_delta_of_several_kinds_becomes_one_for_each_channel() -> None:
    emission, sink, guards = guarded()
    emission.push(Delta(0, b"{}", content="c", reasoning="r"))
    guards["content"].release(1, None)
    guards["reasoning"].release(1, None)
    assert [json.loads(delta) for delta, _ in sink.chunks] == [{"content": "c"}, {"reasoning_content": "r"}]


def test_the_arguments_of_each_tool_call_are_a_channel_of_their_own() -> None:
    emission, sink, guards = guarded()
    first = b'{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]}'
    emission.push(Delta(0, first, tools=first[len(b'{"tool_calls":') : -1]))
    assert sink.chunks == [(first, b"")], "the fragment that names the function waits for nothing"
    more = b'{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\":1}"}}]}'
    emission.push(Delta(0, more, tools=more[len(b'{"tool_calls":') : -1]))
    guards["tools"].release(3, None)
    guards["tools"].release(4, None)
    pieces = [json.loads(delta)["tool_calls"][0] for delta, _ in sink.chunks[1:]]
    assert [(piece["index"], piece["function"]["arguments"]) for piece in pieces] == [(0, '{"a'), (0, '":1}')]


@given(st.lists(st.text(max_size=6), max_size=12), st.data())
def test_released_text_is_what_was_pushed_however_it_is_released(texts: list[str], data: st.DataObject) -> None:
    emission, sink, guards = guarded()
    for text in texts:
        emission.push(content(text))
    left = sum(map(len, texts))
    release: Callable[[int, str | None], None] = guards["content"].release if "content" in guards else lambda *_: None
    while left:
        step = data.draw(st.integers(1, left))
        release(step, None)
        left -= step
    assert sink.text == "".join(texts)


def test_a_call_that_came_whole_keeps_its_id_and_name_when_its_arguments_leave_in_parts() -> None:
    emission, sink, guards = guarded()
    function = {"name": "f", "arguments": '{"a":1}'}
    signed = {"extra_content": {"google": {"thought_signature": "s"}}}
    tools = json.dumps([{"index": 0, "id": "c", "type": "function", "function": function, **signed}]).encode()
    emission.push(Delta(0, b'{"role":"assistant","tool_calls":%b}' % tools, tools=tools))
    guards["tools"].release(3, None)
    guards["tools"].release(4, None)
    head, *pieces = [json.loads(delta)["tool_calls"][0] for delta, _ in sink.chunks]
    assert (head["id"], head["function"], head["extra_content"]) == (
        "c", {"name": "f", "arguments": ""}, signed["extra_content"],
    )  # fmt: skip
    assert [piece["function"] for piece in pieces] == [{"arguments": '{"a'}, {"arguments": '":1}'}]
    assert not any("id" in piece for piece in pieces)


def test_a_call_that_came_whole_and_is_guarded_by_nobody_leaves_as_it_came() -> None:
    sink = Kept()
    emission = Emission(0, sink, lambda channel, release: None)
    tools = b'[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}]'
    emission.push(Delta(0, b'{"tool_calls":%b}' % tools, tools=tools))
    assert [delta for delta, _ in sink.chunks] == [b'{"tool_calls":%b}' % tools]


def test_of_a_guarded_delta_only_what_is_read_may_leave() -> None:
    emission, sink, guards = guarded()
    emission.push(Delta(0, b'{"content":"ab","note":"secret"}', "ab", unread=True))
    emission.push(Delta(0, b'{"note":"secret"}', unread=True))
    emission.push(Delta(0, b'{"content":"\\ud83d","note":"secret"}', "\ud83d", unread=True))
    guards["content"].release(3, None)
    assert [json.loads(delta) for delta, _ in sink.chunks] == [{"content": "ab"}, {"content": "\ud83d"}]


def test_a_delta_that_nobody_guards_leaves_with_all_it_has() -> None:
    sink = Kept()
    raw = b'{"content":"ab","note":"x"}'
    Emission(0, sink, unguarded).push(Delta(0, raw, "ab", unread=True))
    assert sink.chunks == [(raw, b"")]


def test_what_a_custom_tool_is_told_is_guarded_like_arguments() -> None:
    emission, sink, guards = guarded()
    first = b'[{"index":0,"id":"c","type":"custom","custom":{"name":"f","input":""}}]'
    emission.push(Delta(0, b'{"tool_calls":%b}' % first, tools=first))
    more = b'[{"index":0,"custom":{"input":"select 1"}}]'
    emission.push(Delta(0, b'{"tool_calls":%b}' % more, tools=more))
    assert guards["tools"].seen == "select 1"
    guards["tools"].release(6, None)
    guards["tools"].release(2, "***")
    calls = [json.loads(delta)["tool_calls"][0] for delta, _ in sink.chunks]
    assert [call["custom"].get("input") for call in calls] == ["", "select", "***"]
