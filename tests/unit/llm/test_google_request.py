"""A chat completion's request as Google's generateContent is sent it."""

from __future__ import annotations

from typing import Any

import pytest
from railstream.config import Model, RailsConfig
from railstream.errors import CallError
from railstream_engine.providers.google.request import CONTINUE, body_of

HI = [{"role": "user", "content": "Hi"}]


def sent(model: str = "gemini-3.8-flash", messages: Any = None, **params: Any) -> dict[str, Any]:
    return body_of(model, messages or HI, params)


def test_a_plain_question_is_its_contents_and_nothing_else() -> None:
    assert sent() == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


def test_options_are_sent_by_googles_names() -> None:
    options = {"temperature": 0, "top_p": 0.5, "top_k": 3, "seed": 7, "n": 2, "stop": "END", "max_tokens": 9}
    assert sent(**options)["generationConfig"] == {
        "temperature": 0, "topP": 0.5, "topK": 3, "seed": 7, "candidateCount": 2, "stopSequences": ["END"],
        "maxOutputTokens": 9,
    }  # fmt: skip


def test_options_that_say_nothing_here_are_not_sent() -> None:
    assert "generationConfig" not in sent(
        stream=True, user="u", store=False, parallel_tool_calls=True, temperature=None
    )


@pytest.mark.parametrize(
    ("name", "value"), [("logit_bias", {"1": 2}), ("verbosity", "low"), ("parallel_tool_calls", False)]
)
def test_an_option_without_a_counterpart_is_an_error_that_names_it(name: str, value: Any) -> None:
    with pytest.raises(CallError) as caught:
        sent(**{name: value})
    assert (caught.value.code, caught.value.param) == ("invalid_request", name)


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-3.8-flash", "low", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-3.8-flash", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("models/gemini-2.5-pro", "medium", {"thinkingBudget": 8192, "includeThoughts": True}),
    ],
)
def test_an_effort_is_a_level_or_a_budget_of_thoughts(model: str, effort: str, config: Any) -> None:
    assert sent(model, reasoning_effort=effort)["generationConfig"]["thinkingConfig"] == config


def test_options_as_langchains_configs_have_them_are_known() -> None:
    config = sent(max_output_tokens=9, thinking_budget=0, include_thoughts=False)["generationConfig"]
    assert config == {"maxOutputTokens": 9, "thinkingConfig": {"thinkingBudget": 0, "includeThoughts": False}}
    config = sent(reasoning_effort="high", include_thoughts=False)["generationConfig"]
    assert config == {"thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": False}}


def test_a_schema_is_sent_as_json_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    config = sent(response_format=wanted)["generationConfig"]
    assert config == {"responseMimeType": "application/json", "responseJsonSchema": schema}
    assert sent(response_format={"type": "json_object"})["generationConfig"] == {"responseMimeType": "application/json"}
    assert "generationConfig" not in sent(response_format={"type": "text"})


def test_functions_are_declared_with_their_schema_and_the_choice_among_them() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
    body = sent(tools=[tool], tool_choice={"type": "function", "function": {"name": "f"}})
    declared = {"name": "f", "description": "d", "parametersJsonSchema": {"type": "object"}}
    assert body["tools"] == [{"functionDeclarations": [declared]}]
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}
    for choice, mode in (("auto", "AUTO"), ("none", "NONE"), ("required", "ANY")):
        assert sent(tools=[tool], tool_choice=choice)["toolConfig"] == {"functionCallingConfig": {"mode": mode}}


def test_googles_own_options_stand_where_they_belong() -> None:
    body = sent(safety_settings=[{"category": "c", "threshold": "OFF"}], thinking_config={"thinkingBudget": -1})
    assert body["safetySettings"] == [{"category": "c", "threshold": "OFF"}]
    assert body["generationConfig"]["thinkingConfig"] == {"thinkingBudget": -1}


def test_turns_alternate_and_a_begun_answer_is_asked_to_go_on() -> None:
    said = [("user", "One"), ("user", "Two"), ("assistant", "Three")]
    body = sent(messages=[{"role": role, "content": text} for role, text in said])
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "One"}, {"text": "Two"}]},
        {"role": "model", "parts": [{"text": "Three"}]},
        {"role": "user", "parts": [{"text": CONTINUE}]},
    ]


def test_pictures_and_sound_are_sent_inline_or_by_address() -> None:
    content = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
        {"type": "image_url", "image_url": {"url": "https://files.example/a.png?x=1"}},
        {"type": "input_audio", "input_audio": {"format": "mp3", "data": "QUJD"}},
    ]
    (turn,) = sent(messages=[{"role": "user", "content": content}])["contents"]
    assert turn["parts"] == [
        {"text": "What?"},
        {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
        {"fileData": {"fileUri": "https://files.example/a.png?x=1", "mimeType": "image/png"}},
        {"inlineData": {"mimeType": "audio/mp3", "data": "QUJD"}},
    ]
    with pytest.raises(CallError, match="video"):
        sent(messages=[{"role": "user", "content": [{"type": "video"}]}])


def test_arguments_that_are_no_json_are_an_error() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": "{"}}
    with pytest.raises(CallError, match="not JSON"):
        sent(messages=[*HI, {"role": "assistant", "tool_calls": [call]}])


def only(**entry: Any) -> Model:
    return RailsConfig.from_content(config={"models": [{"type": "main", "model": "m", **entry}]}).models[0]


@pytest.mark.parametrize("engine", ["google", "google_genai", "gemini"])
def test_the_key_is_found_under_either_of_googles_names(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    monkeypatch.setenv("GOOGLE_API_KEY", "the other")
    assert only(engine=engine).api_key == "the other"
    monkeypatch.setenv("GEMINI_API_KEY", "the first")
    assert only(engine=engine).api_key == "the first"
