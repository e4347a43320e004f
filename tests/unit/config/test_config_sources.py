"""Config files: which are read, how they merge, and that each problem names the file it is in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from railstream.config import RailsConfig
from railstream.errors import ConfigurationError

Write = Callable[[str, str], Path]

MAIN = "models: [{type: main, engine: openai, model: gpt-4o-mini}]\n"


def test_a_directory_is_one_config_of_all_its_yaml_files(write: Write) -> None:
    write("config.yml", MAIN + "rails: {input: {flows: [self check input]}}\n")
    write("sub/prompts.yaml", "prompts: [{task: self_check_input, content: 'Is {{ user_input }} bad?'}]\n")
    path = write("more.yml", "models: [{type: judge, engine: openai, model: judge}]\npassthrough: true\n")
    config = RailsConfig.from_path(path)
    assert [model.model for model in config.models] == ["gpt-4o-mini", "judge"]
    assert config.prompts[0].task == "self_check_input"
    assert config.passthrough is True
    assert (config.id, config.directory) == (path.name, path)


def test_a_path_may_be_text_or_a_single_file(write: Write) -> None:
    path = write("alone.yml", MAIN)
    assert RailsConfig.from_path(str(path / "alone.yml")).id == "alone"
    assert RailsConfig.from_path(path / "alone.yml").directory == path


def test_of_other_keys_the_last_file_wins_whole_and_says_so(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    write("a.yml", "rails: {output: {parallel: true}}")
    path = write("b.yml", "rails: {input: {parallel: true}}")
    with caplog.at_level(logging.WARNING):
        config = RailsConfig.from_path(path)
    assert (config.rails.output.parallel, config.rails.input.parallel) == (False, True)
    assert "b.yml: 'rails' replaces the one of" in caplog.text


def test_a_problem_names_its_file_and_its_place_there(write: Write) -> None:
    write("a.yml", MAIN)
    path = write("b.yml", "models: [{type: x, engine: nim, model: m}, {type: y, engine: nim, model: m, mod: chat}]")
    with pytest.raises(ConfigurationError, match=r"b\.yml: models\[1\]\.mod: unknown key; did you mean 'mode'\?"):
        RailsConfig.from_path(path)


def test_a_missing_prompt_is_reported_in_the_file_of_the_flow(write: Write) -> None:
    write("a.yml", MAIN)
    path = write("rails.yml", "rails: {output: {flows: [self check output]}}")
    with pytest.raises(ConfigurationError, match=r"rails\.yml: rails\.output\.flows\[0\]: the flow"):
        RailsConfig.from_path(path)


def test_what_is_not_yaml_is_refused_with_its_line(write: Write) -> None:
    with pytest.raises(ConfigurationError, match=r"config\.yml: line 2, column 1: "):
        RailsConfig.from_path(write("config.yml", "models: [\n}"))


def test_a_key_that_stands_twice_is_refused(write: Write) -> None:
    with pytest.raises(ConfigurationError, match=r"config\.yml: line 2, column 1: the key 'rails' stands twice"):
        RailsConfig.from_path(write("config.yml", "rails: {output: {flows: [a]}}\nrails: {}\n"))


def test_yaml_anchors_and_merge_keys_work(write: Write) -> None:
    path = write("config.yml", "models:\n  - &m {type: main, engine: openai, model: a}\n  - {<<: *m, model: b}\n")
    assert [model.model for model in RailsConfig.from_path(path).models] == ["a", "b"]


def test_yaml_cannot_make_python_objects(write: Write) -> None:
    with pytest.raises(ConfigurationError, match="could not determine a constructor"):
        RailsConfig.from_path(write("config.yml", "custom_data: !!python/object/apply:os.getcwd []"))


def test_colang_files_and_knowledge_bases_are_refused(write: Write, tmp_path: Path) -> None:
    write("a/config.yml", MAIN)
    write("a/rails.co", "define flow x")
    with pytest.raises(ConfigurationError, match=r"rails\.co: Colang is not run here; .*@action in `actions\.py`"):
        RailsConfig.from_path(tmp_path / "a")
    write("b/kb/facts.md", "# Facts")
    with pytest.raises(ConfigurationError, match=r"facts\.md: there is no knowledge base"):
        RailsConfig.from_path(tmp_path / "b")


def test_railsignore_hides_files(write: Write) -> None:
    write("config.yml", MAIN)
    write("old.co", "define flow x")
    path = write(".railsignore", "# not these\n*.co\n")
    assert RailsConfig.from_path(path).models


def test_a_mounted_config_map_is_read_once(write: Write) -> None:
    path = write("..2024_01_01/config.yml", MAIN)
    (path / "..data").symlink_to("..2024_01_01")
    (path / "config.yml").symlink_to("..data/config.yml")
    assert len(RailsConfig.from_path(path).models) == 1


def test_a_link_to_an_outer_directory_is_followed_once(write: Write) -> None:
    path = write("config.yml", MAIN)
    (path / "loop").symlink_to(path)
    assert len(RailsConfig.from_path(path).models) == 1


def test_a_path_that_holds_no_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="neither a config directory nor"):
        RailsConfig.from_path(tmp_path / "none")
