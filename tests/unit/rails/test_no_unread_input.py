"""Whatever a client puts into its messages and options: a marker that the input rails stop reaches no provider.

The requests are generated. What would be sent is read by this test's own walk, not by the product's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import Any

import pytest
from harness.examples import examples
from hypothesis import given
from hypothesis import strategies as st
from railstream_engine.rails.engine import RailsEngine
from unit.rails.guarding import engine, turn

MARK = "secret-123456"
FLOWS: dict[str, tuple[str, dict[str, Any]]] = {
    "regex": ("regex check input", {"regex_detection": {"input": {"patterns": ["secret-[0-9]{6}"]}}}),
    "terms": ("terms check input", {"terms": {"input": {"terms": [MARK], "whole_words": False}}}),
    "mask": ("mask terms on input", {"terms": {"input": {"terms": [MARK], "whole_words": False}}}),
}


@cache
def rails(name: str) -> RailsEngine:
    flow, section = FLOWS[name]
    built: RailsEngine = engine({"input": {"flows": [flow]}, "config": section})
    return built


CLEAN = ["clean words", "", "héllo", "auto", "user", "\\n", "{}", '{"a": 1}', "data:image/png;base64,iVBORw0KGgo="]
DIRTY = [
    MARK, f"so {MARK} it is", "secret-", "123456", MARK[:5], MARK[5:], json.dumps({"a": MARK}),
    json.dumps({"a": json.dumps([MARK])}), '{"a": "\\u0073ecret-123456"}',
    "data:text/plain;base64,c2VjcmV0LTEyMzQ1Ng==",
]  # fmt: skip
KEYS = ["text", "type", "name", "note", "url", "file", "filename", "arguments", "function", "input", "id"]


def requests(leaves: list[Any]) -> st.SearchStrategy[tuple[list[dict[str, Any]], dict[str, Any]]]:
    leaf = st.sampled_from([*leaves, 1, None, True, 2.5])
    text = st.sampled_from([one for one in leaves if isinstance(one, str)])
    tree = st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
        max_leaves=5,
    )
    part = st.fixed_dictionaries({"type": st.just("text"), "text": text}) | text | tree
    content = text | st.lists(part, max_size=4) | st.none() | tree
    message = st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "user", "assistant", "tool"])},
        optional={"content": content, "name": text, "tool_calls": tree, "refusal": text, "note": tree},
    )
    params = st.fixed_dictionaries(
        {}, optional={"tools": tree, "metadata": tree, "stop": text, "prediction": tree, "user": text, "x": tree}
    )
    return st.tuples(st.lists(message, min_size=1, max_size=5), params)


def strings(value: Any, depth: int = 4) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        try:
            inner = json.loads(value) if depth else None
        except ValueError:
            return
        if isinstance(inner, dict | list):
            yield from strings(inner, depth - 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from strings(item, depth)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, depth)


def said(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else "" for part in parts]
    return "".join(text for text in texts if isinstance(text, str))


def sent(messages: list[dict[str, Any]], params: dict[str, Any]) -> str:
    """All that a model could read: each string, and what messages of one role in a row say together."""
    turns = ["".join(map(said, group)) for _, group in groupby(messages, lambda message: message.get("role"))]
    return "\n".join([*strings(messages), *strings(params), *turns])


@pytest.mark.parametrize("name", list(FLOWS))
@examples(300)
@given(request=requests([*CLEAN, *DIRTY]))
def test_the_marker_reaches_no_provider(name: str, request: tuple[list[dict[str, Any]], dict[str, Any]]) -> None:
    messages, params = request
    asked = turn(messages=messages, params=params)
    found, violation = asyncio.run(rails(name).check_input(asked))
    if violation is None:
        seen = sent([dict(message) for message in found], dict(asked.params))
        assert MARK not in seen
        assert "c2VjcmV0LTEyMzQ1Ng==" not in seen


@pytest.mark.parametrize("name", list(FLOWS))
@examples(150)
@given(request=requests(CLEAN))
def test_a_clean_request_reaches_the_provider_as_it_was_sent(
    name: str, request: tuple[list[dict[str, Any]], dict[str, Any]]
) -> None:
    messages, params = request
    before = json.dumps([messages, params])
    asked = turn(messages=messages, params=params)
    found, violation = asyncio.run(rails(name).check_input(asked))
    assert violation is None
    assert json.dumps([found, asked.params]) == before
