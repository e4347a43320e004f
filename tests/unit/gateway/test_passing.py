"""Which options of a provider a request may send, by engine, by model and by whether rails are there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from railstream.config import RailsConfig
from railstream.errors import InvalidRequestError
from railstream_gateway.accept.chat_request import read_chat
from railstream_gateway.accept.passing import refuse_options
from railstream_gateway.accept.served import Served

CALL = {"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}
HI = {"messages": [{"role": "user", "content": "hi"}]}
RAILS = {"rails": {"input": {"flows": ["terms check input"]}, "config": {"terms": {"input": {"terms": ["x"]}}}}}


def served(engine: str, passed: Any = None, *, guarded: bool = False) -> Served:
    model: dict[str, Any] = {"type": "main", "engine": engine, "model": "m", "parameters": {"base_url": "http://x/v1"}}
    if passed is not None:
        model["railstream"] = {"pass": passed}
    config = RailsConfig.model_validate(
        {"models": [model], **(RAILS if guarded else {})}, context={"require_keys": False}
    )
    return Served(("c",), config, "m")


def passes(given: Served, **options: Any) -> bool:
    request = read_chat(json.dumps(HI | options).encode())
    assert {name: request.params[name] for name in options} == options
    try:
        refuse_options(given, request.provider_options)
    except InvalidRequestError as error:
        return not (error.param in options and "railstream.pass" in error.message)
    return True


@pytest.mark.parametrize("engine", ["vllm", "ollama", "llamacpp", "some_server"])
def test_an_engine_that_is_hosted_by_its_user_is_passed_every_option(engine: str) -> None:
    assert passes(served(engine), top_k=3, chat_template_kwargs={"enable_thinking": False}, a_new_one=[1])


@pytest.mark.parametrize(
    ("engine", "option", "expected"),
    [
        ("openai", {"moderation": {}}, True),
        ("openai", {"prompt_cache_options": {}}, True),
        ("openai", {"top_k": 3}, False),
        ("openrouter", {"provider": {"order": ["a"]}}, True),
        ("deepseek", {"thinking": {"type": "enabled"}}, True),
        ("groq", {"reasoning_format": "parsed"}, True),
        ("groq", {"min_p": 0.1}, False),
        ("anthropic", {"thinking": {"type": "enabled"}}, True),
    ],
)
def test_a_hosted_engine_is_passed_what_it_is_known_to_take(engine: str, option: Any, expected: bool) -> None:
    assert passes(served(engine), **option) is expected


def test_a_models_own_list_goes_before_its_engines() -> None:
    assert passes(served("openai", "all"), a_new_one=1)
    assert passes(served("openai", ["top_k"]), top_k=3)
    assert not passes(served("openai", ["top_k"]), min_p=0.1)
    assert not passes(served("vllm", "none"), top_k=3)


@pytest.mark.parametrize("option", ["echo", "prompt_logprobs", "chat_template", "return_token_ids", "a_new_one"])
def test_a_guarded_config_passes_what_could_move_text_only_where_it_is_named(option: str) -> None:
    assert not passes(served("vllm", guarded=True), **{option: 1})
    assert not passes(served("vllm", "all", guarded=True), **{option: 1})
    assert passes(served("vllm", [option], guarded=True), **{option: 1})


def test_a_guarded_config_passes_sampling_and_structured_output() -> None:
    assert passes(served("vllm", guarded=True), top_k=3, guided_regex="a+", ignore_eos=True)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ({"tool_choice": "any"}, {"tool_choice": "required"}),
        ({"max_tokens": -1}, {}),
        ({"max_completion_tokens": -1.0}, {}),
        ({"max_tokens": 5.0, "seed": 7.0}, {"max_tokens": 5, "seed": 7}),
        ({"logprobs": False, "top_logprobs": 0}, {"logprobs": False, "top_logprobs": 0}),
    ],
)
def test_a_value_in_other_words_means_the_same(sent: Any, meant: Any) -> None:
    params = read_chat(json.dumps(HI | sent).encode()).params
    assert json.dumps(params, sort_keys=True) == json.dumps(meant, sort_keys=True)


@pytest.mark.parametrize("value", [-2, 0, 5.5, -1.5])
def test_a_bound_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(InvalidRequestError, match="max_tokens"):
        read_chat(json.dumps(HI | {"max_tokens": value}).encode())


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "tool_call_id": "c", "content": None},
        {
            "role": "tool",
            "tool_call_id": "c",
            "content": [{"type": "image_url", "image_url": {"url": "http://x/a.png"}}],
        },
        {"role": "function", "name": "f", "content": "3"},
        {"role": "user", "content": [{"type": "image_url", "image_url": "http://x/a.png"}]},
        {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "http://x/a.mp4"}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": {}}}],
        },
    ],
)
def test_messages_that_other_servers_take_are_taken_as_they_are(message: Any) -> None:
    assert read_chat(json.dumps({"messages": [HI["messages"][0], message]}).encode()).messages[1] == message


def test_a_call_without_a_type_is_one_of_a_function() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    read = read_chat(json.dumps({"messages": [{"role": "assistant", "tool_calls": [call]}]}).encode())
    assert read.messages[0]["tool_calls"] == [{**call, "type": "function"}]


def test_a_byte_order_mark_is_no_error() -> None:
    assert read_chat(b"\xef\xbb\xbf" + json.dumps(HI).encode()).messages == HI["messages"]
