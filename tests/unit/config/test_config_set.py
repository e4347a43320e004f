"""The set of configs: loaded once, looked up by id, and nothing a request says reaches the file system."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from railstream.config import ConfigSet, config_set
from railstream.errors import ConfigurationError, InvalidRequestError, UnknownConfigError

Write = Callable[[str, str], Path]

MAIN = "models: [{{type: main, engine: openai, model: {}}}]\n"


@pytest.fixture
def root(write: Write) -> Path:
    write("billing/config.yml", MAIN.format("m"))
    write("support/config.yaml", MAIN.format("n"))
    write("both/config.yml", MAIN.format("m") + "passthrough: true\n")
    write("notes/readme.txt", "no config")
    return write(".hidden/config.yml", "broken: [")


def test_each_folder_with_a_config_is_one_by_its_name(root: Path) -> None:
    configs = ConfigSet.load(root)
    assert configs.ids == ("billing", "both", "support")
    assert configs.default_id == "billing"
    assert configs.get(["support"]).id == "support"
    assert [config.id for config in configs] == ["billing", "both", "support"]


def test_a_directory_with_a_config_is_the_only_one(root: Path) -> None:
    configs = ConfigSet.load(root / "support")
    assert (configs.ids, configs.default_id) == (("support",), "support")
    assert ConfigSet.load(root / "support" / "config.yaml").ids == ("config",)


def test_no_id_means_the_default_config(root: Path) -> None:
    assert ConfigSet.load(root, default="both").get().id == "both"
    with pytest.raises(ConfigurationError, match="'none' is none of billing, both, support"):
        ConfigSet.load(root, default="none")


UNSAFE = ["../billing", "..", "", "/etc/passwd", "billing/", "billing\x00", "BILLING", "billing,both"]


@pytest.mark.parametrize("id", UNSAFE)
def test_an_unknown_or_unsafe_id_is_refused_by_name(id: str, root: Path) -> None:
    with pytest.raises(UnknownConfigError) as caught:
        ConfigSet.load(root).get([id])
    assert repr(id) in str(caught.value)
    assert caught.value.status == 400


def test_a_request_never_touches_the_file_system(root: Path) -> None:
    configs = ConfigSet.load(root)
    shutil.rmtree(root)
    assert configs.get(["billing", "both"]).passthrough is True
    with pytest.raises(UnknownConfigError):
        configs.get(["notes"])


def test_ids_are_combined_in_their_order_once(root: Path) -> None:
    configs = ConfigSet.load(root)
    combined = configs.get(["billing", "both"])
    assert combined.id == "billing,both"
    assert configs.get(["billing", "both"]) is combined
    assert configs.get(["billing", "billing"]) is configs.get(["billing"])
    with pytest.raises(InvalidRequestError, match=r"billing, support cannot be combined: .* must agree on the models"):
        configs.get(["billing", "support"])


def test_the_kept_combinations_are_bounded(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        root = write(f"{name}/config.yml", "passthrough: true")
    monkeypatch.setattr(config_set, "COMBINATIONS", 5)
    configs = ConfigSet.load(root)
    for ids in permutations("abcd"):
        assert configs.get(ids).id == ",".join(ids)
    assert len(configs._combined) == 5


def test_models_are_found_and_the_default_configs_come_first(root: Path) -> None:
    configs = ConfigSet.load(root, default="both")
    assert configs.models() == ("m", "n")
    assert (configs.serving("m"), configs.serving("n"), configs.serving("o")) == ("both", "support", None)


def test_a_folder_whose_name_is_no_id_is_refused(write: Write) -> None:
    with pytest.raises(ConfigurationError, match="'my config'"):
        ConfigSet.load(write("my config/config.yml", ""))


def test_a_root_without_any_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no config"):
        ConfigSet.load(tmp_path)
    with pytest.raises(ConfigurationError, match="there is no config directory"):
        ConfigSet.load(tmp_path / "gone")


def test_one_wrong_config_refuses_them_all(root: Path, write: Write) -> None:
    write("support/config.yaml", "modles: []")
    with pytest.raises(ConfigurationError, match=r"support/config\.yaml: modles: unknown key"):
        ConfigSet.load(root)


def test_without_a_root_the_demo_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    configs = ConfigSet.load(None)
    assert (configs.ids, configs.default_id) == (("scripted",), "scripted")
    demo = configs.get()
    assert demo.models[0].engine == "scripted"
    assert demo.rails.output.flows
    assert demo.rails.output.streaming.enabled is True


def test_without_a_root_and_with_a_key_openai_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    configs = ConfigSet.load(None)
    assert (configs.ids, configs.default_id) == (("openai", "scripted"), "openai")
    assert configs.get().rails.output.streaming.enabled is True
    assert configs.serving("gpt-4o-mini") == "openai"
