"""A chat completion as a request of the Responses API: what it has no field for is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from railstream.config import RailsConfig
from railstream.errors import CallError, ConfigurationError
from railstream_engine.providers.openai_responses.request import body_of

USER = {"role": "user", "content": "Hello."}


def body(*messages: dict[str, Any], defaults: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    return body_of("m", messages or [USER], defaults or {}, params)


def test_messages_become_items() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    given = body(
        {"role": "system", "content": "Be kind."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "See:"}, {"type": "image_url", "image_url": {"url": "u"}}],
        },
        {"role": "assistant", "content": "I look.", "tool_calls": [call], "refusal": None, "reasoning_content": "Hm."},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "A train."}]},
        {"role": "assistant", "content": None, "refusal": "No."},
    )
    assert given["input"] == [
        {"role": "system", "content": "Be kind."},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "See:"}, {"type": "input_image", "image_url": "u"}],
        },
        {"role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "A train."}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]
    assert (given["background"], given["store"], given["stream"]) == (True, True, True)


def test_options_stand_where_the_api_has_them() -> None:
    schema = {"name": "s", "schema": {"type": "object"}, "strict": True}
    given = body(
        defaults={"reasoning": {"summary": "auto"}, "max_tokens": 9, "chat_template_kwargs": {"a": 1}},
        max_completion_tokens=7,
        reasoning_effort="low",
        verbosity="low",
        response_format={"type": "json_schema", "json_schema": schema},
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": None}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        temperature=0.5,
        n=1,
        logprobs=False,
        stop=None,
        modalities=["text"],
        metadata={"a": "b"},
    )
    assert given["max_output_tokens"] == 7
    assert given["reasoning"] == {"summary": "auto", "effort": "low"}
    assert given["text"] == {"verbosity": "low", "format": {"type": "json_schema", **schema}}
    assert given["tools"] == [{"type": "function", "strict": False, "name": "f", "parameters": {"type": "object"}}]
    assert given["tool_choice"] == {"type": "function", "name": "f"}
    assert (given["temperature"], given["metadata"]) == (0.5, {"a": "b"})
    assert given["chat_template_kwargs"] == {"a": 1}, "an operator's own options go to the endpoint as they are"
    assert not {"n", "logprobs", "stop", "modalities", "response_format", "max_tokens"} & given.keys()


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "name": "f", "content": "x"}, "messages.0.role"),
        ({"role": "user", "content": "x", "name": "Ann"}, "messages.0.name"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "messages.0.content"),
        ({"role": "assistant", "tool_calls": [{"id": "a", "type": "custom", "custom": {}}]}, "messages.0.tool_calls"),
        ({"role": "assistant", "content": "x", "audio": {"id": "a"}}, "messages.0.audio"),
    ],
)
def test_what_a_message_cannot_say_there_is_refused_by_name(message: dict[str, Any], param: str) -> None:
    with pytest.raises(CallError) as caught:
        body(message)
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)


def test_an_option_of_a_request_that_nobody_knows_is_refused_also_where_the_operator_sets_it() -> None:
    with pytest.raises(CallError, match="'top_k'"):
        body(defaults={"top_k": 4}, top_k=5)


def config(**entry: Any) -> RailsConfig:
    where = {"parameters": {"base_url": "http://127.0.0.1:1/v1"} | entry.pop("parameters", {})}
    return RailsConfig.from_content(
        config={"models": [{"type": "main", "engine": "openai", "model": "m"} | entry | where]}
    )


def test_a_model_says_which_wire_it_speaks() -> None:
    assert config(railstream={"wire": "responses"}).models[0].wire == "responses"
    assert config(engine="mine", railstream={"wire": "responses"}).models[0].wire == "responses"
    assert config().models[0].wire == "openai"


def test_a_lost_run_is_never_continued_by_a_trailing_message() -> None:
    assert config(engine="vllm", railstream={"wire": "responses"}).on_worker_loss_of("m") == "fail"
    both = {"models": [{"type": "main", "engine": "vllm", "model": "m", "railstream": {"wire": "responses"}}]}
    assert (
        RailsConfig.from_content(config=both | {"railstream": {"on_worker_loss": "continue"}}).on_worker_loss_of("m")
        == "fail"
    )


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ({"engine": "anthropic", "railstream": {"wire": "responses"}}, "does not speak 'responses'"),
        ({"railstream": {"wire": "responses", "on_worker_loss": "continue"}}, "'continue' does not exist"),
        ({"railstream": {"wire": "responses"}, "parameters": {"seed": 3}}, "refuses this option"),
        ({"railstream": {"wire": "response"}}, "wire"),
    ],
)
def test_a_wire_that_does_not_fit_is_an_error_of_the_config(entry: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        config(**entry)
