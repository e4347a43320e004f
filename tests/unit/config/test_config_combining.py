"""Combined configs: the second takes precedence in what it sets, and a default overrides nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from railstream.config import RailsConfig
from railstream.errors import ConfigurationError

Write = Callable[[str, str], Path]

MAIN = "models: [{type: main, engine: openai, model: m}]\n"


def config(text: str) -> RailsConfig:
    return RailsConfig.from_content(yaml_content=text)


def test_flows_are_joined_without_repeats_the_second_first() -> None:
    first = config("rails: {output: {flows: [a, b]}}")
    second = config("rails: {output: {flows: [c, a]}}")
    assert (first + second).rails.output.flows == ("c", "a", "b")


def test_a_default_of_the_second_does_not_undo_the_first() -> None:
    first = config("rails: {output: {streaming: {enabled: true, chunk_size: 4}}}\npassthrough: true")
    second = config("rails: {output: {streaming: {context_size: 1}}}")
    streaming = (first + second).rails.output.streaming
    assert (streaming.enabled, streaming.chunk_size, streaming.context_size) == (True, 4, 1)
    assert first.combined_with(second).passthrough is True


def test_what_the_second_sets_wins() -> None:
    assert (config("passthrough: true") + config("passthrough: false")).passthrough is False


def test_models_of_one_type_must_be_the_same() -> None:
    other = MAIN.replace("model: m", "model: n")
    with pytest.raises(ConfigurationError, match="of type 'main' one has openai/m, the other openai/n"):
        config(MAIN) + config(other)
    with pytest.raises(ConfigurationError, match="agree on the models"):
        config(MAIN) + config(MAIN.replace("openai", "nim"))


def test_of_the_same_model_the_seconds_parameters_hold() -> None:
    second = config("models: [{type: main, engine: openai, parameters: {model_name: m, temperature: 1}}]")
    combined = config(MAIN + "instructions: [{type: general, content: one}]") + second
    assert [model.parameters for model in combined.models] == [{"temperature": 1}]
    assert combined.general_instructions == "one"


def test_models_of_other_types_are_joined() -> None:
    judge = config("models: [{type: judge, engine: openai, model: j}]")
    assert [model.type for model in (config(MAIN) + judge).models] == ["judge", "main"]


def test_among_equal_prompts_the_seconds_wins() -> None:
    prompts = "prompts: [{{task: t, content: {}}}]"
    combined = config(prompts.format("one")) + config(prompts.format("two"))
    assert combined.prompt_of("t").content == "two"


def test_a_combination_may_be_wrong_as_a_whole() -> None:
    masks = config(
        "rails: {output: {flows: [mask sensitive data on output]}, "
        "config: {sensitive_data_detection: {output: {entities: [PERSON]}}}}"
    )
    streams = config("rails: {output: {streaming: {enabled: true}}}")
    with pytest.raises(ConfigurationError, match=r"rails\.output\.streaming: 'mask sensitive data on output'"):
        masks + streams


def test_ids_and_directories_of_both_are_kept(write: Write) -> None:
    write("a/config.yml", MAIN)
    root = write("b/config.yml", "passthrough: true")
    combined = RailsConfig.from_path(root / "a") + RailsConfig.from_path(root / "b")
    assert (combined.id, combined.directories) == ("a,b", (root / "a", root / "b"))
    assert (combined + combined).directories == (root / "a", root / "b")


def test_combining_changes_neither() -> None:
    first, second = config(MAIN), config("rails: {output: {flows: [a]}}")
    combined = first + second
    assert first.rails.output.flows == ()
    assert combined.rails.output.flows == ("a",)
    assert second.models == ()
