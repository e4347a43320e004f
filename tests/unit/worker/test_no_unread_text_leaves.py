"""Whatever a provider sends, in whatever field, form, choice and order: a marker that the rails stop never leaves.

The chunks are generated; the reader, the generation, the emission and the rails are the product's own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pytest
from harness.examples import examples
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider
from railstream import events
from railstream.config import RailsConfig
from railstream.events import Failed, Finished, Usage
from railstream.telemetry.calls import CallRecorder
from railstream_engine.generation.calls import Caller
from railstream_engine.generation.generation import Generation, Outcome
from railstream_engine.generation.logprobs import _decode as _decode_logprobs
from railstream_engine.providers.openai.events import ChunkReader
from railstream_engine.providers.port import Call, Part
from railstream_engine.rails.engine import RailsEngine
from railstream_engine.rails.port import Turn

MARK = "secret-123456"
ESCAPED = "\\u0073ecret-\\u00312345\\u0036"
STREAMING = {"enabled": True, "chunk_size": 2, "context_size": 20}
RAILS: dict[str, dict[str, Any]] = {
    "regex": {
        "output": {"flows": ["regex check output"], "streaming": STREAMING},
        "config": {"regex_detection": {"output": {"patterns": ["secret-[0-9]{6}"]}}},
    },
    "terms": {
        "output": {"flows": ["terms check output"], "streaming": STREAMING},
        "config": {"terms": {"output": {"terms": [MARK], "whole_words": False}}},
    },
    "mask": {
        "output": {"flows": ["mask terms on output"], "streaming": STREAMING},
        "config": {"terms": {"output": {"terms": [MARK], "whole_words": False}}},
    },
    "judge": {"output": {"flows": ["self check output"], "streaming": STREAMING}},
    "judge of the content": {
        "output": {
            "flows": ["self check output"],
            "streaming": STREAMING,
            "channels": {"self check output": ["content"]},
        }
    },
}
PROMPTS = [{"task": "self_check_output", "content": "Block? {{ bot_response }}"}]


@cache
def engine(name: str) -> RailsEngine:
    return RailsEngine(RailsConfig.from_content(config={"rails": RAILS[name], "prompts": PROMPTS}))


async def judge(_: str, messages: Sequence[Mapping[str, Any]], **__: Any) -> str:
    return "yes" if MARK in str(messages[-1]["content"]) else "no"


class Sink:
    """Keeps what leaves."""

    def __init__(self) -> None:
        self.chunks: list[tuple[bytes, bytes]] = []

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        self.chunks.append((delta, choice))

    async def room(self) -> None:
        return None

    def has_room(self) -> bool:
        return True


class Provider:
    """Sends the bytes of an event stream, in pieces of the given size."""

    name, provider, address, port = "m", "openai", "", 0

    def __init__(self, body: bytes, size: int) -> None:
        self._pieces = [body[at : at + size] for at in range(0, len(body), size)]

    async def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        reader = ChunkReader()
        for piece in self._pieces:
            if parts := reader.feed(piece):
                yield parts
            if reader.done:
                break
        if parts := reader.end():
            yield parts

    async def aclose(self) -> None:
        return None


async def answered(rails: str, body: bytes, *, size: int = 10_000, n: int = 2) -> tuple[Sink, Outcome]:
    sink, log = Sink(), list[Usage]()
    recorder = CallRecorder(NoOpTracerProvider().get_tracer("t"), NoOpMeterProvider().get_meter("m"))
    model = Provider(body, size)
    caller = Caller("chatcmpl-1", 1, {"main": model}, log.append, recorder)
    built = engine(rails)
    turn = Turn([{"role": "user", "content": "hi"}], judge)
    params = {"n": n, "tools": [{"type": "function", "function": {"name": "declared"}}]}
    outcome = await Generation(built.config, built, model, turn, params, caller, sink).run()
    return sink, outcome


def texts_in(value: Any, depth: int = 4) -> Iterator[str]:
    """Every string of a JSON value, keys and the JSON inside of strings included."""
    if isinstance(value, str):
        yield value
        try:
            inner = json.loads(value) if depth else None
        except (ValueError, RecursionError):
            return
        if not isinstance(inner, str | int | float | None):
            yield from texts_in(inner, depth - 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from texts_in(item, depth)
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item, depth)


def text_that_left(sink: Sink, outcome: Outcome) -> str:
    """All that a client could read: each value alone, and each kind of text of each choice joined."""
    found: list[str] = []
    joined: dict[tuple[object, ...], str] = {}
    for delta, choice in sink.chunks:
        said, about = json.loads(delta), json.loads(choice or b"{}")
        found += [delta.decode(errors="replace"), choice.decode(errors="replace"), *texts_in(said), *texts_in(about)]
        index = about.get("index", 0)
        for name, value in said.items():
            if isinstance(value, str):
                joined[index, name] = joined.get((index, name), "") + value
            for call in (value or ()) if name == "tool_calls" else ():
                key = (index, "call", call["index"])
                arguments = (call.get("function") or call.get("custom") or {}).get("arguments")
                joined[key] = joined.get(key, "") + (arguments if isinstance(arguments, str) else "")
    _, end = events.encode(outcome)
    found += [end.decode(), *texts_in(json.loads(end))]
    return "\n".join([*found, *joined.values(), *(text for value in joined.values() for text in texts_in(value))])


NAMES = [
    "content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "role", "index", "id",
    "type", "function", "custom", "name", "arguments", "input", "logprobs", "token", "bytes", "top_logprobs", "text",
    "note",
    "extra_content", "google", "thought_signature", "annotations", "audio", MARK,
]  # fmt: skip
NESTED = [json.dumps({"a": MARK}), json.dumps([MARK]), json.dumps(json.dumps({"b": MARK})), '{"a": "secr']
CLEAN_LEAVES = ["clean words", "", 0, 1, 5, 1.5, None, True, "declared", "call_1"]
LEAVES = st.sampled_from([MARK, MARK, "secret-", "123456", MARK[:5], MARK[5:], *NESTED, *CLEAN_LEAVES])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=6,
)
INDEXES = st.sampled_from([0, 0, 0, 1, 1, 7, -1, None])
FUNCTIONS = st.fixed_dictionaries({}, optional={"name": LEAVES, "arguments": TREES, "input": TREES, "note": LEAVES})
FRAGMENTS = st.fixed_dictionaries(
    {},
    optional={"index": INDEXES, "id": LEAVES, "type": LEAVES, "function": FUNCTIONS, "custom": FUNCTIONS, "x": TREES},
)
DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "content": LEAVES | TREES,
        "reasoning_content": LEAVES,
        "reasoning": LEAVES,
        "refusal": LEAVES,
        "tool_calls": st.lists(FRAGMENTS, max_size=3) | TREES,
        "role": LEAVES,
        "function_call": TREES,
        "note": TREES,
        MARK: TREES,
    },
)
TOKENS = st.fixed_dictionaries(
    {"token": LEAVES},
    optional={"logprob": LEAVES, "bytes": TREES, "top_logprobs": st.lists(TREES, max_size=2), "note": LEAVES},
)
LOGPROBS = st.fixed_dictionaries({}, optional={"content": st.lists(TOKENS, max_size=3), "refusal": TREES}) | TREES
CHOICES = st.fixed_dictionaries(
    {"index": st.sampled_from([0, 0, 0, 1]), "delta": DELTAS},
    optional={"logprobs": LOGPROBS, "finish_reason": st.none() | LEAVES, "stop_reason": TREES},
)
CHUNKS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICES, min_size=1, max_size=2)},
    optional={"id": LEAVES, "model": LEAVES, "usage": TREES, "note": TREES, "system_fingerprint": LEAVES},
)
ODD = st.sampled_from(
    [
        json.dumps({"error": {"message": MARK, "code": MARK, "type": MARK, "param": MARK}}),
        json.dumps({"object": "error", "message": MARK}),
        f'{{"choices":[{{"delta":{{"content":"{MARK}","content":"x"}}}}]}}',
        f'{{"choices":[{{"delta":{{"content":"clean","content":"{MARK}"}}}}]}}',
        f'{{"choices":[{{"delta":{{"{MARK}":null,"content":"x"}}}}]}}',
        f"{MARK} is no JSON",
        f'{{"choices":[{{"delta":{{"content":"{MARK}',
        json.dumps({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, MARK: 3, "note": MARK}}),
    ]
)


def body_of(chunks: Sequence[Mapping[str, Any] | str], *, escaped: bool) -> bytes:
    written = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    if escaped:
        written = [text.replace(MARK, ESCAPED) for text in written]
    return "".join(f"data: {text}\n\n" for text in [*written, "[DONE]"]).encode()


def end_of(reason: str = "stop") -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


def tool_call(**function: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "call_1", "function": function}]}}]}


@pytest.mark.parametrize("rails", list(RAILS))
@examples(300)
@given(
    chunks=st.lists(CHUNKS | ODD, min_size=1, max_size=5),
    escaped=st.booleans(),
    size=st.sampled_from([7, 61, 10_000]),
)
@example(chunks=[tool_call(name="f", arguments={"a": MARK}), end_of()], escaped=False, size=10_000)
@example(chunks=[tool_call(name="f", arguments=json.dumps({"a": MARK})), end_of()], escaped=True, size=10_000)
@example(chunks=[tool_call(name=MARK, arguments="{}"), end_of()], escaped=False, size=10_000)
@example(
    chunks=[tool_call(name="f", arguments='{"a":"secr'), tool_call(arguments='et-123456"}')], escaped=False, size=61
)
@example(chunks=[end_of(MARK)], escaped=False, size=10_000)
def test_the_marker_never_leaves(rails: str, chunks: list[Any], escaped: bool, size: int) -> None:
    sink, outcome = asyncio.run(answered(rails, body_of(chunks, escaped=escaped), size=size))
    assert MARK not in text_that_left(sink, outcome)


CLEAN_TOKEN = {"token": "Hello", "logprob": -0.1, "bytes": list(b"Hello"), "top_logprobs": []}
HEAD = {"index": 0, "id": "call_abc", "type": "function", "function": {"name": "declared", "arguments": '{"a":'}}
CLEAN: list[dict[str, Any]] = [
    {
        "index": 0,
        "delta": {"role": "assistant", "content": "Hello"},
        "logprobs": {"content": [CLEAN_TOKEN], "refusal": None},
    },
    {"index": 0, "delta": {"content": " wörld 👩\u200d🚀"}},
    {"index": 1, "delta": {"content": "Other"}},
    {"index": 0, "delta": {"reasoning_content": "Because."}},
    {"index": 1, "delta": {"reasoning": "Why."}},
    {"index": 0, "delta": {"refusal": "No."}},
    {"index": 0, "delta": {"tool_calls": [HEAD]}},
    {"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": ' "b"}'}}]}},
]
USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 9,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


@pytest.mark.parametrize("rails", ["regex", "terms", "mask"])
def test_a_clean_answer_keeps_every_known_field(rails: str) -> None:
    chunks = [{"choices": [choice]} for choice in CLEAN]
    ends: list[dict[str, Any]] = [
        {"choices": [{"index": n, "delta": {}, "finish_reason": "stop" if n else "tool_calls"}]} for n in range(2)
    ]
    body = body_of([*chunks, *ends, {"choices": [], "usage": USAGE}], escaped=False)
    sink, outcome = asyncio.run(answered(rails, body))
    assert outcome == Finished(finish_reasons=("tool_calls", "stop"), usage=USAGE)
    texts: dict[tuple[int, str], str] = {}
    calls, logprobs = [], []
    for delta, choice in sink.chunks:
        said, about = json.loads(delta), json.loads(choice or b"{}")
        calls += said.pop("tool_calls", [])
        logprobs += [about["logprobs"]] if "logprobs" in about else []
        for name, text in said.items():
            key = (about.get("index", 0), name)
            texts[key] = texts.get(key, "") + text
    assert texts.pop((1, "role")) == "assistant"  # the second choice's; the first one's is a frame of the gateway
    texts.pop((0, "role"), None)
    assert texts == {
        (0, "content"): "Hello wörld 👩\u200d🚀",
        (1, "content"): "Other",
        (0, "reasoning_content"): "Because.",
        (1, "reasoning"): "Why.",
        (0, "refusal"): "No.",
    }
    function = {"name": "declared", "arguments": '{"a": "b"}'}
    assert calls == [{"index": 0, "id": "call_abc", "type": "function", "function": function}]
    assert logprobs == [{"content": [CLEAN_TOKEN], "refusal": None}]


@pytest.mark.parametrize(("reason", "leaves"), [("abort", "abort"), ("length", "length"), ("two words", "error")])
def test_an_unknown_finish_reason_leaves_only_as_a_short_identifier(reason: str, leaves: str) -> None:
    chunks = [{"choices": [{"index": 0, "delta": {"content": "Hello"}}]}]
    _, outcome = asyncio.run(answered("regex", body_of([*chunks, end_of(reason)], escaped=False)))
    assert isinstance(outcome, Finished)
    assert outcome.finish_reasons in {(leaves,), ("stop",)}


@pytest.mark.parametrize("index", [2, 2_000_000, -1])
def test_a_choice_that_nobody_asked_for_is_the_providers_error(index: int) -> None:
    for last in ({"content": "x"}, {}):
        choice = {"index": index, "delta": last, "finish_reason": None if last else "stop"}
        _, outcome = asyncio.run(answered("regex", body_of([{"choices": [choice]}], escaped=False)))
        assert isinstance(outcome, Failed)
        assert outcome.error["code"] == "provider"


def content(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text} | more.pop("delta", {})} | more]}


def logprobs(*tokens: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"token": token, "logprob": -1.0} | more for token in tokens]}


def with_id(id: str) -> dict[str, Any]:
    call = {"index": 0, "id": id, "function": {"name": "declared", "arguments": "{}"}}
    return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}


async def _all_arguments(arguments: Any, _: Any) -> Any:
    return arguments


async def _anything(*_: Any) -> bool:
    return True


async def _nothing(*_: Any) -> None:
    return None


async def _given(_: Any, reason: str) -> str:
    return reason


GUARDS: dict[str, tuple[str, str, Any, list[Any]]] = {
    "a raw delta leaves only where it holds nothing else": (
        "railstream_engine.providers.openai.events", "_is_exact", lambda *_: True,
        [content("clean", delta={"note": MARK})],
    ),
    "usage is cut down to known figures": (
        "railstream_engine.generation.usage_object", "known_figures", lambda usage: usage,
        [content("clean"), end_of(), {"choices": [], "usage": {"prompt_tokens": 1, "note": MARK}}],
    ),
    "errors are in our words": (
        "railstream.errors.CallError", "guarded_envelope", lambda error: error.envelope(),
        [content("clean"), {"error": {"message": MARK}}],
    ),
    "finish reasons are a closed set": (
        "railstream_engine.generation.generation.Generation", "_reason", _given, [content("clean"), end_of(MARK)],
    ),
    "the name of a tool that was not declared is read": (
        "railstream_engine.rails.output.output_guards.OutputGuards", "_read_name", _nothing, [tool_call(name=MARK)],
    ),
    "the id of a call is read": (
        "railstream_engine.generation.tool_calls.ToolCalls", "_passes", _anything, [with_id(MARK)],
    ),
    "the arguments of a call are read": (
        "railstream_engine.rails.output.output_guards", "read_arguments", _all_arguments,
        [tool_call(name="declared", arguments={"a": MARK})],
    ),
    "arguments are read without their escapes": (
        "railstream_engine.rails.tools.tool_texts", "_unescaped", lambda text: text,
        [tool_call(name="declared", arguments='"' + ESCAPED + '" and no JSON')],
    ),
    "JSON in strings of arguments is read": (
        "railstream_engine.rails.tools.tool_texts", "DEPTH", 0,
        [tool_call(name="declared", arguments=json.dumps({"a": json.dumps({"b": '{"c": "' + ESCAPED + '"}'})}))],
    ),
    "log probabilities are those of their text": (
        "railstream_engine.generation.logprobs", "entries_of", lambda given, *_: _decode_logprobs(given).content,
        [content("clean", logprobs=logprobs(MARK))],
    ),
    "alternatives are dropped": (
        "railstream_engine.rails.output.output_guards.OutputGuards", "alternatives",
        lambda _, __, texts: [True] * len(texts),
        [content("clean", logprobs=logprobs("clean", top_logprobs=[{"token": MARK}]))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("guard", list(GUARDS))
def test_each_guard_is_what_keeps_the_marker_in(guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the guard the marker stays; with nothing but this one guard taken out, it leaves."""
    owner, name, without, chunks = GUARDS[guard]
    body = body_of([end_of(), *chunks], escaped=False)
    assert MARK not in unescaped(text_that_left(*asyncio.run(answered("regex", body))))
    monkeypatch.setattr(f"{owner}.{name}", without)
    assert MARK in unescaped(text_that_left(*asyncio.run(answered("regex", body))))


def unescaped(text: str) -> str:
    """The text as it reads when all JSON in it is decoded."""
    while "\\\\" in text:
        text = text.replace("\\\\", "\\")
    return text.replace(ESCAPED, MARK)
