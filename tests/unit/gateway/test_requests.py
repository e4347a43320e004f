"""Bodies, checked."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from railstream.config import RailsConfig
from railstream.errors import AuthenticationError, BadCursorError, InvalidRequestError
from railstream.ids import START, EventId
from railstream_gateway.accept.auth import ApiKeys, credential_in
from railstream_gateway.accept.chat_body import PASSED
from railstream_gateway.accept.chat_request import read_chat, read_checks
from railstream_gateway.accept.passing import refuse_options
from railstream_gateway.accept.served import Served
from railstream_gateway.stream.cursor import parse_cursor

HI = {"messages": [{"role": "user", "content": "hi"}]}


def read(**given: Any) -> Any:
    return read_chat(json.dumps(HI | given).encode())


def test_nulls_are_absent() -> None:
    request = read(temperature=None, stream=None, guardrails=None, tools=None)
    assert (request.params, request.stream, request.config_ids) == ({}, False, ())


def test_the_older_fields_and_the_nested_ones_mean_the_same() -> None:
    fields = {"config_ids": ["a", "b"], "thread_id": "t" * 16, "context": {"x": 1}, "options": {"rails": ["input"]}}
    first, second = read(**fields), read(guardrails=fields)
    for name in ("config_ids", "thread_id", "context", "options"):
        assert getattr(first, name) == getattr(second, name)


def test_the_fingerprint_is_of_the_meaning_and_not_of_the_spelling() -> None:
    body = {"model": "m", **HI}
    spaced = json.dumps(dict(reversed(body.items())), indent=3).encode()
    assert read_chat(json.dumps(body).encode()).fingerprint() == read_chat(spaced).fingerprint()
    assert read(seed=1).fingerprint() != read(seed=2).fingerprint()


@pytest.mark.parametrize(
    "message",
    [
        {"role": "system", "content": "a"},
        {"role": "developer", "content": [{"type": "text", "text": "a"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "tool", "tool_call_id": "c", "content": "a"},
    ],
)  # fmt: skip
def test_every_role_and_part_passes_as_it_was_sent(message: dict[str, Any]) -> None:
    assert read(messages=[message]).messages == [message]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"guardrails": {"thread_id": "short"}}, "guardrails.thread_id"),
        ({"stop": [1]}, "stop[0]"),
        ({"thread_id": "t" * 16, "guardrails": {"thread_id": "u" * 16}}, "thread_id"),
    ],
)
def test_an_error_names_the_place(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        read(**given)
    assert raised.value.param == param


def test_a_misspelt_option_is_told_its_nearest() -> None:
    model = {"type": "main", "engine": "openai", "model": "m"}
    config = RailsConfig.model_validate({"models": [model]}, context={"require_keys": False})
    request = read(max_token=1)
    with pytest.raises(InvalidRequestError, match="did you mean 'max_tokens'"):
        refuse_options(Served(("c",), config, "m"), request.provider_options)
    with pytest.raises(InvalidRequestError, match="use tools"):
        read(functions=[])


WRONG: dict[str, Any] = {
    "temperature": ["hot", 3, True, [1], {}],
    "top_p": [2, "1"],
    "max_tokens": ["3", 0, 1.5, [3]],
    "max_completion_tokens": [-2],
    "stop": [1, {"a": "b"}, ["x", 1]],
    "seed": ["1", 1.5],
    "n": [0, "2", 500],
    "logprobs": ["true", 1],
    "top_logprobs": [21, "3"],
    "logit_bias": [{"1": "a"}, {"1": 200}, []],
    "tools": [{}, "f", [{"type": "function"}], [{"type": "function", "function": {"name": 1}}]],
    "tool_choice": ["anything", 1],
    "response_format": ["json", {"type": "x"}],
    "metadata": [{"a": 1}, "a"],
    "user": [1, {}],
    "prediction": ["x"],
    "store": ["yes"],
    "modalities": [["audio"], "text"],
}


@pytest.mark.parametrize("name", list(WRONG))
@pytest.mark.parametrize("nested", [True, False])
def test_llm_params_are_held_to_the_types_of_the_options(name: str, nested: bool) -> None:
    for value in WRONG[name]:
        options = {"options": {"llm_params": {name: value}}}
        with pytest.raises(InvalidRequestError) as caught:
            read(**({"guardrails": options} if nested else options))
        assert caught.value.status == 400
        assert str(caught.value.param).startswith(f"options.llm_params.{name}"), (name, value)
        with pytest.raises(InvalidRequestError):
            read(**{name: value})


@pytest.mark.parametrize("value", [1, "x", [], [{"seed": 1}]])
def test_llm_params_are_an_object(value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read(options={"llm_params": value})
    assert caught.value.param == "options.llm_params"


def test_llm_params_are_held_to_what_options_demand_of_each_other() -> None:
    with pytest.raises(InvalidRequestError, match="top_logprobs needs logprobs"):
        read(options={"llm_params": {"top_logprobs": 2}})
    assert read(logprobs=True, options={"llm_params": {"top_logprobs": 2}}).params["top_logprobs"] == 2
    with pytest.raises(InvalidRequestError, match=r"n cannot be combined with railstream\.models"):
        read(railstream={"models": ["a", "b"]}, options={"llm_params": {"n": 2}})


def test_nulls_among_llm_params_are_absent() -> None:
    assert read(seed=1, options={"llm_params": {"seed": None, "stop": None}}).params == {"seed": 1}


def test_llm_params_join_the_options() -> None:
    assert read(temperature=0, options={"llm_params": {"seed": 1}}).params == {"temperature": 0, "seed": 1}


def test_checks_take_no_generation_options() -> None:
    assert read_checks(json.dumps(HI).encode()).kind == "checks"
    with pytest.raises(InvalidRequestError, match="stream"):
        read_checks(json.dumps(HI | {"stream": True}).encode())


def test_everything_that_passes_is_an_option_of_the_provider() -> None:
    assert not PASSED & {"model", "messages", "stream", "stream_options", "config_id", "guardrails", "options"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_body_raises_anything_but_a_wrong_request(body: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        read_chat(body)


@given(st.sampled_from(sorted(PASSED | {"messages", "model", "guardrails", "stream", "context"})), json_values)
def test_no_value_raises_anything_but_a_wrong_request(name: str, value: Any) -> None:
    with contextlib.suppress(InvalidRequestError):
        read(**{name: value})


@pytest.mark.parametrize(
    ("header", "query", "cursor"),
    [(None, None, START), ("", None, START), ("1-5", None, EventId(1, 5)), (None, "2-0", EventId(2, 0)),
     ("1-5", "1-5", EventId(1, 5))],
)  # fmt: skip
def test_a_cursor_is_read_from_either_place(header: str | None, query: str | None, cursor: EventId) -> None:
    assert parse_cursor(header, query) == cursor


@given(st.text(min_size=1))
def test_no_cursor_raises_anything_but_a_bad_cursor(value: str) -> None:
    with contextlib.suppress(BadCursorError):
        parse_cursor(value, None)


def test_two_cursors_that_differ_are_refused() -> None:
    with pytest.raises(BadCursorError, match="differ"):
        parse_cursor("1-5", "1-6")


def test_a_key_is_read_wherever_clients_send_it_and_is_not_kept() -> None:
    keys = ApiKeys(("one", "two"))

    def tenant(**headers: str) -> str:
        return keys.tenant(credential_in({name.replace("_", "-"): value for name, value in headers.items()}))

    same = [tenant(authorization="bearer  one"), tenant(x_api_key="one"), tenant(api_key=" one ")]
    assert same == [tenant(authorization="Bearer one")] * 3
    assert tenant(authorization="Bearer one") != tenant(authorization="Bearer two")
    assert tenant(authorization="Bearer one", x_api_key="two") == same[0]
    assert "one" not in same[0]
    for headers, code in (
        ({}, "missing_api_key"),
        ({"authorization": "Basic abc"}, "missing_api_key"),
        ({"authorization": "Bearer three"}, "invalid_api_key"),
        ({"api_key": "three"}, "invalid_api_key"),
    ):
        with pytest.raises(AuthenticationError) as raised:
            tenant(**headers)
        assert (raised.value.code, raised.value.status) == (code, 401)
    assert ApiKeys(()).tenant(None) == ""
