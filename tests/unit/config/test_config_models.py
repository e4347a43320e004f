"""Models: where the name stands, where the key comes from, which timeouts hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from railstream.config import Model, RailsConfig
from railstream.errors import ConfigurationError

Refusal = Callable[[str], str]


def only(entry: str) -> Model:
    return RailsConfig.from_content(yaml_content=f"models: [{entry}]").models[0]


@pytest.mark.parametrize("place", ["model: m", "parameters: {model: m}", "parameters: {model_name: m}"])
def test_the_name_stands_in_any_one_place(place: str) -> None:
    model = only(f"{{type: main, engine: openai, {place}}}")
    assert model.model == "m"
    assert model.request_params == {}


@pytest.mark.parametrize(
    "places",
    ["model: m, parameters: {model: n}", "parameters: {model: m, model_name: n}", "parameters: {}", "mode: chat"],
)
def test_a_name_in_two_places_or_none_is_refused(places: str, refusal: Refusal) -> None:
    assert "in exactly one place" in refusal(f"models: [{{type: main, engine: openai, {places}}}]")


def test_an_unset_key_variable_is_refused_by_its_name(refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    text = "models: [{type: main, engine: openai, model: m, api_key_env_var: MY_KEY}]"
    assert "models[0].api_key_env_var: the environment variable 'MY_KEY'" in refusal(text)
    monkeypatch.setenv("MY_KEY", "secret")
    assert only("{type: main, engine: openai, model: m, api_key_env_var: MY_KEY}").api_key == "secret"


def test_the_key_comes_from_the_engines_usual_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_API_KEY", "nv")
    assert only("{type: main, engine: nim, model: m}").api_key == "nv"
    assert only("{type: main, engine: nim, model: m, parameters: {api_key: own}}").api_key == "own"
    assert only("{type: main, engine: ollama, model: m}").api_key == ""


def test_a_key_is_not_printed() -> None:
    assert "own" not in repr(only("{type: main, engine: nim, model: m, parameters: {api_key: own}}"))


def test_the_base_url_is_the_engines_or_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert only("{type: main, engine: openai, model: m}").base_url == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://proxy/v1")
    assert only("{type: main, engine: openai, model: m}").base_url == "http://proxy/v1"
    assert only("{type: main, engine: mine, model: m, parameters: {base_url: 'http://x/v1'}}").base_url == "http://x/v1"


def test_an_unknown_engine_needs_a_base_url(refusal: Refusal) -> None:
    message = refusal("models: [{type: main, engine: opneai, model: m}]")
    assert "models[0].engine: 'opneai' is not a known engine; did you mean 'openai'?" in message
    assert "parameters.base_url" in message


def test_client_parameters_are_not_sent_and_all_others_are() -> None:
    model = only(
        "{type: main, engine: openai, model: m, parameters: {temperature: 0, timeout: 9, base_url: 'http://x'}}"
    )
    assert model.request_params == {"temperature": 0}


def test_headers_of_both_places_are_sent() -> None:
    parameters, own = "{default_headers: {a: '1', b: '1'}}", "{headers: {b: '2'}}"
    entry = f"{{type: main, engine: nim, model: m, parameters: {parameters}, railstream: {own}}}"
    assert only(entry).headers == {"a": "1", "b": "2"}


def test_a_timeout_is_the_models_own_then_its_parameters_then_the_configs() -> None:
    config = RailsConfig.from_content(
        yaml_content="""
models:
  - type: main
    engine: openai
    model: m
    parameters: {timeout: 7, connect_timeout: 8, max_retries: 1}
    railstream: {connect_timeout: 1}
railstream: {deadlines: {total: 11}}
"""
    )
    deadlines = config.deadlines_of(config.models[0])
    assert (deadlines.connect, deadlines.first_token, deadlines.between_chunks, deadlines.total) == (1, 60, 7, 11)
    assert config.models[0].max_retries == 1


@pytest.mark.parametrize("parameters", ["timeout: soon", "max_retries: -1", "default_headers: [a]"])
def test_a_client_parameter_that_cannot_be_used_is_refused(parameters: str, refusal: Refusal) -> None:
    name = parameters.partition(":")[0]
    text = f"models: [{{type: main, engine: openai, model: m, parameters: {{{parameters}}}}}]"
    assert f"models[0].parameters.{name}: must be a" in refusal(text)


def test_several_main_models_are_served() -> None:
    config = RailsConfig.from_content(
        yaml_content="models: [{type: main, engine: openai, model: a}, {type: main, engine: openai, model: b}, "
        "{type: guard, engine: openai, model: a}]"
    )
    assert [model.model for model in config.main_models] == ["a", "b"]
    assert config.model_of("guard") is config.models[2]
    assert config.model_named("a") is config.models[0]
    assert config.model_of("nothing") is None


def test_a_model_named_twice_is_refused(refusal: Refusal) -> None:
    assert "named twice" in refusal(
        "models: [{type: main, engine: openai, model: a}, {type: main, engine: nim, model: a}]"
    )


def test_a_fallback_must_be_another_model_of_the_config(refusal: Refusal) -> None:
    entry = "{{type: main, engine: openai, model: m, railstream: {{fallbacks: [{}]}}}}"
    assert "its own fallback" in refusal(f"models: [{entry.format('m')}]")
    assert "'n' is no model of this config" in refusal(f"models: [{entry.format('n')}]")
    spare = "{type: spare, engine: openai, model: n}"
    assert RailsConfig.from_content(yaml_content=f"models: [{entry.format('n')}, {spare}]").models


def test_who_never_calls_a_model_needs_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    file = tmp_path / "config.yml"
    file.write_text("models: [{type: main, engine: openai, model: m, api_key_env_var: MY_KEY}]", "utf-8")
    assert RailsConfig.from_path(tmp_path, require_keys=False).models
    with pytest.raises(ConfigurationError, match="MY_KEY"):
        RailsConfig.from_path(tmp_path)
