"""Which bytes leave when guards release whole deltas, parts of them, and rewritten ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from railstream.errors import CallError
from railstream_engine.generation.emission import Emission
from railstream_engine.generation.tool_calls import MOST_BYTES, MOST_CALLS
from railstream_engine.providers.port import Delta
from railstream_engine.rails.port import OutputGuard, Release, ToolCall


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


class Guarded:
    """Guards that release when the test says so, beside rails that rule on calls as told."""

    guarded = True
    passes_unread = False

    def __init__(self, unread: tuple[str, ...] = (), *, local: bool = True) -> None:
        self.guards: dict[str, ByHand] = {}
        self.ruled: list[ToolCall] = []
        self.blocks: set[str] = set()
        """Names of calls that are blocked."""
        self.rewrites: dict[Any, Any] = {}
        """Arguments that are rewritten."""
        self._unread = unread
        self._local = local

    def channel(self, name: str, release: Release) -> OutputGuard | None:
        if name in self._unread:
            return None
        self.guards[name] = ByHand(release)
        return self.guards[name]

    async def rule_call(self, call: ToolCall) -> ToolCall | None:
        self.ruled.append(call)
        if call.name in self.blocks:
            return None
        return replace(call, arguments=self.rewrites.get(str(call.arguments), call.arguments))

    async def lets_pass(self, text: str) -> bool:
        return self._local and "secret" not in text

    def alternatives(self, before: str, texts: Sequence[str]) -> list[bool]:
        return ["secret" not in before + text for text in texts]


class Unguarded(Guarded):
    guarded = False

    def channel(self, name: str, release: Release) -> OutputGuard | None:
        return None


def guarded(index: int = 0, **given: Any) -> tuple[Emission, Kept, dict[str, ByHand]]:
    rails = Guarded(**given)
    sink = Kept()
    return Emission(index, sink, rails), sink, rails.guards


def content(text: str) -> Delta:
    return Delta(0, json.dumps({"content": text}).encode(), text, exact=True)


def unguarded(index: int = 0) -> tuple[Emission, Kept]:
    sink = Kept()
    return Emission(index, sink, Unguarded()), sink


def fragments(*calls: dict[str, Any]) -> Delta:
    tools = json.dumps(calls).encode()
    return Delta(0, b'{"tool_calls":%b}' % tools, tools=tools)


async def called(*deltas: Delta, rails: Guarded | None = None, index: int = 0, **given: Any) -> list[dict[str, Any]]:
    """The calls that leave after these deltas."""
    sink = Kept()
    emission = Emission(index, sink, rails or Guarded(), **given)
    for delta in deltas:
        emission.push(delta)
    assert sink.chunks == [], "nothing of a call leaves before the rails have read all of it"
    emission.end_calls()
    await emission.finish()
    await emission.aclose()
    assert all(set(json.loads(delta)) == {"tool_calls"} for delta, _ in sink.chunks)
    return [json.loads(delta)["tool_calls"][0] for delta, _ in sink.chunks]


def test_without_a_guard_deltas_leave_at_once_in_their_own_bytes() -> None:
    emission, sink = unguarded()
    emission.push(Delta(0, b'{ "content":  "x"}', "x"))
    assert sink.chunks == [(b'{ "content":  "x"}', b"")]


def test_a_delta_released_whole_leaves_in_its_own_bytes() -> None:
    emission, sink, guards = guarded()
    emission.push(Delta(0, b'{ "content":"ab"}', "ab", exact=True))
    emission.push(Delta(0, b'{ "content":"cd"}', "cd", exact=True))
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
    emission.push(Delta(0, raw, "passes", exact=True))
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
    emission.push(Delta(0, b'{ "content":" is"}', " is", exact=True))
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
    emission, sink = unguarded(1)
    emission.push(Delta(1, b'{"content":"x"}', "x", logprobs=b'{"content":[]}'))
    assert sink.chunks == [(b'{"content":"x"}', b'{"index":1,"logprobs":{"content":[]}}')]


def test_a_delta_of_several_kinds_becomes_one_for_each_channel() -> None:
    emission, sink, guards = guarded()
    emission.push(Delta(0, b"{}", content="c", reasoning="r"))
    guards["content"].release(1, None)
    guards["reasoning"].release(1, None)
    assert [json.loads(delta) for delta, _ in sink.chunks] == [{"content": "c"}, {"reasoning_content": "r"}]


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


async def test_a_call_leaves_whole_when_the_rails_have_read_it() -> None:
    head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    rails = Guarded()
    (call,) = await called(
        fragments(head),
        fragments({"index": 0, "function": {"arguments": '{"a"'}}),
        fragments({"index": 0, "function": {"arguments": ":1}"}}),
        rails=rails,
        declared={"f": None},
    )
    assert call == head | {"function": {"name": "f", "arguments": '{"a":1}'}}
    assert rails.ruled == [ToolCall("f", '{"a":1}', declared=True)]


async def test_of_a_call_only_values_that_are_read_leave() -> None:
    signed = {"google": {"thought_signature": "c2ln", "note": "secret"}, "other": "secret"}
    odd = {"name": "f", "arguments": "{}", "note": "secret"}
    fragment = {
        "index": 7,
        "id": "secret",
        "type": "secret",
        "function": odd,
        "extra": "secret",
        "extra_content": signed,
    }
    (call,) = await called(fragments(fragment))
    assert "secret" not in json.dumps(call)
    assert call["index"] == 0
    assert call["type"] == "function"
    assert call["extra_content"] == {"google": {"thought_signature": "c2ln"}}
    assert len(call["id"]) == 9
    assert call["id"].isalnum()


async def test_an_id_that_no_rail_reads_is_replaced_by_the_same_one_each_time() -> None:
    call = fragments({"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{}"}})
    one, same, other = [
        (await called(call, rails=Guarded(local=False), seed=seed))[0]["id"] for seed in ("a", "a", "b")
    ]
    assert one == same != other
    assert one != "call_1"


async def test_arguments_leave_in_the_form_they_came_in() -> None:
    for arguments in ({"a": ["b"]}, ["c"], '{"a": "\\u0062"}', "no json"):
        (call,) = await called(fragments({"index": 0, "id": "c", "function": {"name": "f", "arguments": arguments}}))
        assert call["function"]["arguments"] == arguments


async def test_what_a_custom_tool_is_told_is_read_and_rewritten_like_arguments() -> None:
    rails = Guarded()
    rails.rewrites = {"select 1": "select *"}
    (call,) = await called(
        fragments({"index": 0, "id": "c", "type": "custom", "custom": {"name": "sql", "input": "sel"}}),
        fragments({"index": 0, "custom": {"input": "ect 1"}}),
        rails=rails,
    )
    assert (call["type"], call["custom"]) == ("custom", {"name": "sql", "input": "select *"})


@pytest.mark.parametrize("indexes", [(0, 1), (0, 0), (None, None), (3, 1)])
async def test_parallel_calls_are_told_apart_by_index_or_by_id(indexes: tuple[int | None, ...]) -> None:
    calls = [
        {"index": index, "id": f"c{n}", "function": {"name": f"f{n}", "arguments": ""}}
        for n, index in enumerate(indexes)
    ]
    more = [{"index": index, "function": {"arguments": f"[{n}]"}} for n, index in enumerate(indexes)]
    deltas = [fragments(calls[0]), fragments(more[0]), fragments(calls[1]), fragments(more[1])]
    found = await called(*deltas)
    assert [(call["index"], call["id"], call["function"]) for call in found] == [
        (0, "c0", {"name": "f0", "arguments": "[0]"}),
        (1, "c1", {"name": "f1", "arguments": "[1]"}),
    ]


async def test_calls_whose_fragments_alternate_are_put_together() -> None:
    heads = [{"index": n, "id": f"c{n}", "function": {"name": f"f{n}", "arguments": ""}} for n in (0, 1)]
    mixed = [{"index": n % 2, "function": {"arguments": str(n)}} for n in range(6)]
    found = await called(fragments(*heads), *(fragments(one) for one in mixed))
    assert [call["function"]["arguments"] for call in found] == ["024", "135"]


async def test_after_a_call_that_is_blocked_none_leaves() -> None:
    rails = Guarded()
    rails.blocks = {"f1"}
    calls = [{"index": n, "id": f"c{n}", "function": {"name": f"f{n}", "arguments": "{}"}} for n in range(3)]
    assert [call["id"] for call in await called(fragments(*calls), rails=rails)] == ["c0"]


async def test_a_call_of_another_choice_leaves_as_that_choice() -> None:
    sink = Kept()
    emission = Emission(1, sink, Guarded())
    emission.push(fragments({"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}))
    emission.push(Delta(1, b"{}", "c", reasoning="r"))
    for guard in emission._guards.guards.values():  # type: ignore[attr-defined]
        if guard.seen:
            guard.release(len(guard.seen), None)
    await emission.finish()
    assert {choice for _, choice in sink.chunks} == {b'{"index":1}'}
    assert len(sink.chunks) == 3


@pytest.mark.parametrize(
    "tools",
    [
        b'["x"]',
        b'{"index":0}',
        b"[1]",
        b'[{"index":0,"function":{"arguments":"%b"}}]' % (b"x" * (MOST_BYTES + 1)),
        b'[{"function":{"arguments":%b}}]' % (b"[" * 100 + b"]" * 100),
        json.dumps([{"index": n} for n in range(MOST_CALLS + 1)]).encode(),
    ],
)
def test_tool_calls_that_are_none_or_past_the_bounds_are_the_providers_error(tools: bytes) -> None:
    emission, _, _ = guarded()
    with pytest.raises(CallError, match="tool calls"):
        emission.push(Delta(0, b"{}", tools=tools))


async def test_calls_that_no_rail_reads_are_dropped_unless_the_config_passes_them() -> None:
    call = fragments({"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{}"}})
    rails = Guarded(("tools", "reasoning"), local=False)
    assert await called(call, rails=rails) == []
    rails.passes_unread = True
    assert [found["id"] for found in await called(call, rails=rails)] == ["call_1"]


def test_text_of_a_channel_that_no_rail_reads_is_dropped() -> None:
    emission, sink, guards = guarded(unread=("reasoning",))
    emission.push(Delta(0, b'{"reasoning":"r"}', reasoning="r", exact=True))
    emission.push(Delta(0, b'{"reasoning":"r","content":"c"}', "c", reasoning="r", exact=True))
    guards["content"].release(1, None)
    assert [json.loads(delta) for delta, _ in sink.chunks] == [{"content": "c"}]


def test_without_guards_a_call_leaves_as_it_came() -> None:
    emission, sink = unguarded()
    call = fragments({"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}, "note": 1})
    emission.push(call)
    assert sink.chunks == [(call.raw, b"")]


def test_of_a_guarded_delta_only_what_is_read_may_leave() -> None:
    emission, sink, guards = guarded()
    emission.push(Delta(0, b'{"content":"ab","note":"secret"}', "ab"))
    emission.push(Delta(0, b'{"note":"secret"}'))
    emission.push(Delta(0, b'{"content":"\\ud83d","note":"secret"}', "\ud83d"))
    guards["content"].release(3, None)
    assert [json.loads(delta) for delta, _ in sink.chunks] == [{"content": "ab"}, {"content": "\ud83d"}]


def test_a_guarded_answer_is_shown_in_the_order_in_which_the_rails_have_read_it() -> None:
    emission, sink, guards = guarded()
    emission.push(content("so \u202ecba\u202c"))
    emission.push(Delta(0, b'{"reasoning":"\\u202edcba"}', reasoning="\u202edcba", exact=True))
    assert (guards["content"].seen, guards["reasoning"].seen) == ("so cba\u202c", "dcba")
    guards["content"].release(7, None)
    guards["reasoning"].release(4, None)
    assert [json.loads(delta) for delta, _ in sink.chunks] == [{"content": "so cba\u202c"}, {"reasoning": "dcba"}]


def test_a_delta_that_nobody_guards_leaves_with_all_it_has() -> None:
    emission, sink = unguarded()
    raw = b'{"content":"ab","note":"x"}'
    emission.push(Delta(0, raw, "ab"))
    assert sink.chunks == [(raw, b"")]


def test_white_space_that_was_released_leaves_when_no_more_will_come() -> None:
    emission, sink, guards = guarded()
    emission.push(content("a b"))
    guards["content"].release(1, None)
    guards["content"].release(1, None)
    emission.flush()
    emission.flush()
    assert sink.text == "a "


def logprobs(*tokens: str, **more: Any) -> bytes:
    others = [{"token": "other", "logprob": -2.0, "bytes": None}, {"token": "secret", "logprob": -3.0}]
    entries = [
        {"token": token, "logprob": -0.5, "bytes": list(b"secret"), "note": "secret", "top_logprobs": others}
        for token in tokens
    ]
    return json.dumps({"content": entries, "note": "secret"} | more).encode()


def with_logprobs(text: str, given: bytes) -> Delta:
    return Delta(0, json.dumps({"content": text}).encode(), text, logprobs=given, exact=True)


def test_logprobs_leave_with_their_text_and_say_nothing_else() -> None:
    emission, sink, guards = guarded()
    emission.push(with_logprobs("one two", logprobs("one", " two", refusal=[{"token": "secret", "logprob": 0}])))
    assert sink.chunks == []
    guards["content"].release(7, None)
    ((_, choice),) = sink.chunks
    assert b"secret" not in choice
    found = json.loads(choice)["logprobs"]
    assert [entry["token"] for entry in found["content"]] == ["one", " two"]
    assert found["content"][1] == {
        "token": " two",
        "logprob": -0.5,
        "bytes": list(b" two"),
        "top_logprobs": [{"token": "other", "logprob": -2.0, "bytes": list(b"other")}],
    }
    assert found["refusal"] is None


def test_logprobs_of_a_text_that_leaves_in_parts_come_with_the_last_one() -> None:
    emission, sink, guards = guarded()
    emission.push(with_logprobs("one two", logprobs("one", " two")))
    guards["content"].release(3, None)
    assert b"logprobs" not in sink.chunks[0][1]
    guards["content"].release(4, None)
    assert b'" two"' in sink.chunks[1][1]


def test_logprobs_of_a_text_that_is_rewritten_never_leave() -> None:
    emission, sink, guards = guarded()
    emission.push(with_logprobs("my code is here", logprobs("my ", "code ", "is here")))
    guards["content"].release(3, None)
    guards["content"].release(5, "*** ")
    guards["content"].release(7, None)
    assert sink.text == "my *** is here"
    assert all(choice == b"" for _, choice in sink.chunks)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("ab", logprobs("ab", "secret")),
        ("ab", logprobs("secret")),
        ("ab", b'{"content":"secret"}'),
        ("ab", b'{"content":[{"token":5}]}'),
        ("ab", b'["secret"]'),
    ],
)
def test_logprobs_that_are_not_of_the_deltas_own_text_are_left_out(text: str, given: bytes) -> None:
    emission, sink, guards = guarded()
    emission.push(with_logprobs(text, given))
    guards["content"].release(len(text), None)
    assert sink.chunks == [(json.dumps({"content": text}).encode(), b"")]


def test_logprobs_beside_no_text_or_beside_another_kind_of_text_are_left_out() -> None:
    emission, sink, guards = guarded()
    emission.push(Delta(0, b'{"content":""}', logprobs=logprobs("secret"), exact=True))
    emission.push(Delta(0, b'{"reasoning":"r"}', reasoning="r", logprobs=logprobs("r"), exact=True))
    guards["reasoning"].release(1, None)
    assert all(b"logprobs" not in choice and b"secret" not in delta for delta, choice in sink.chunks)
