"""Which environment variable a model lacks: for every engine, before a call fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from railstream.config import ConfigSet
from railstream.config.engines import ENGINES
from railstream.config.missing_variables import of_all
from railstream.config.models import Model
from railstream.errors import ConfigurationError

WITH_KEY = sorted(name for name, engine in ENGINES.items() if engine.key)
WITHOUT_KEY = sorted(ENGINES.keys() - WITH_KEY)
LOCAL = "http://127.0.0.1:9000/v1"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in ENGINES.values():
        for variable in (engine.key, engine.other_key, engine.url_variable):
            if variable:
                monkeypatch.delenv(variable, raising=False)


def model(engine: str, **given: object) -> Model:
    entry = {"type": "main", "engine": engine, "model": "m"} | given
    return Model.model_validate(entry, context={"require_keys": False})


@pytest.mark.parametrize("engine", WITH_KEY)
def test_every_engine_with_a_key_names_its_variable(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = ENGINES[engine]
    assert preset.key in model(engine).missing_variables
    if not preset.base_url:
        assert preset.url_variable in model(engine).missing_variables
        monkeypatch.setenv(preset.url_variable, "https://resource.example")
    monkeypatch.setenv(preset.key, "secret")
    assert model(engine).missing_variables == ()


@pytest.mark.parametrize("engine", WITHOUT_KEY)
def test_an_engine_without_a_key_lacks_none(engine: str) -> None:
    assert model(engine).missing_variables == ()


def test_the_other_variable_of_an_engine_is_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "secret")
    assert model("gemini").missing_variables == ()


@pytest.mark.parametrize("engine", [name for name in WITH_KEY if ENGINES[name].base_url])
def test_what_stands_at_another_address_may_want_no_key(engine: str) -> None:
    assert model(engine, parameters={"base_url": LOCAL}).missing_variables == ()
    named = model(engine, parameters={"base_url": LOCAL}, api_key_env_var="MY_KEY")
    assert named.missing_variables == ("MY_KEY",), "a variable that the config names is meant"


@pytest.mark.parametrize("where", ["parameters", "railstream"])
def test_a_header_may_bring_the_key(where: str) -> None:
    headers = {"Authorization": "Bearer secret"}
    given = (
        {"parameters": {"default_headers": headers}} if where == "parameters" else {"railstream": {"headers": headers}}
    )
    assert model("openai", **given).missing_variables == ()


def write(root: Path, id: str, *entries: str) -> None:
    models = "".join(f"\n  - {entry}" for entry in entries)
    (root / id).mkdir()
    (root / id / "config.yml").write_text(f"models:{models}", encoding="utf-8")


def test_a_set_is_refused_only_where_nothing_of_it_can_be_served(tmp_path: Path) -> None:
    far = ("{type: main, engine: groq, model: llama}", "{type: judge, engine: anthropic, model: c}")
    write(tmp_path, "far", *far)
    with pytest.raises(ConfigurationError, match=r"no config can be served: .*GROQ_API_KEY.*ANTHROPIC_API_KEY"):
        of_all(ConfigSet.load(tmp_path))
    write(tmp_path, "near", "{type: main, engine: ollama, model: m}")
    lines = of_all(ConfigSet.load(tmp_path))
    assert lines[0] == (
        "config 'far': model 'llama' (groq) needs the environment variable GROQ_API_KEY, which is not set; "
        "set it where the worker runs"
    )
    assert "ANTHROPIC_API_KEY" in lines[1]
    assert len(lines) == 2
