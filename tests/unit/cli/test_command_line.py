"""The command line as a person meets it: help, options, and what is said when something is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from railstream.cli.app import COMMANDS, main
from railstream.cli.options import settings_command
from railstream.cli.start import chosen, serve_of
from railstream.errors import ConfigurationError
from railstream.settings import GatewaySettings, Settings, UpSettings, WorkerSettings, load

KINDS = {"gateway": GatewaySettings, "worker": WorkerSettings, "up": UpSettings}


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in UpSettings.model_fields:
        monkeypatch.delenv(f"RAILSTREAM_{name.upper()}", raising=False)


def test_the_overview_lists_every_command_and_loads_none_of_them() -> None:
    script = (
        "import sys; from railstream.cli import main; main(['--help']);"
        "print([m for m in ('pydantic', 'fastapi', 'openai', 'faststream', 'rich') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert all(f"  {name} " in output for name in COMMANDS)
    assert output.rstrip().endswith("[]")


@pytest.mark.parametrize("command", KINDS)
def test_every_setting_is_an_option_that_names_its_variable(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = "".join(capsys.readouterr().out.split())
    for name in KINDS[command].model_fields:
        assert f"--{name.replace('_', '-')}" in shown
        assert f"[RAILSTREAM_{name.upper()}" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_says_more_than_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


def _settings_of(arguments: list[str], kind: type[Settings]) -> Settings:
    import typer

    seen: list[Settings] = []

    @settings_command(kind)
    def remember(settings: Settings) -> int:
        seen.append(settings)
        return 0

    app = typer.Typer()
    app.command()(remember)
    app(args=arguments, standalone_mode=False)
    return seen[0]


def test_options_become_settings() -> None:
    given = _settings_of(
        ["-p", "9000", "--api-keys", "a, b", "--no-trust-traceparent", "-c", "configs"], GatewaySettings
    )
    assert given == load(
        GatewaySettings, {}, port=9000, api_keys=("a", "b"), trust_traceparent=False, config=Path("configs")
    )


def test_an_option_wins_over_its_variable_and_the_variable_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAILSTREAM_CONCURRENCY", "7")
    assert _settings_of([], WorkerSettings).model_dump()["concurrency"] == 7
    assert _settings_of(["--concurrency", "8"], WorkerSettings).model_dump()["concurrency"] == 8


def test_an_empty_variable_is_none() -> None:
    script = "from railstream.settings import *; s = load(WorkerSettings); print(s.config, s.concurrency, s.http_port)"
    environment = {"RAILSTREAM_CONFIG": "", "RAILSTREAM_CONCURRENCY": "", "RAILSTREAM_HTTP_PORT": ""}
    said = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["None", "64", "None"]


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["gateway", "--port", "99999"], {}, "port (RAILSTREAM_PORT) is wrong"),
        (["worker", "--concurrency", "many"], {}, "concurrency (RAILSTREAM_CONCURRENCY) is wrong"),
        (["up", "--log-level", "loud"], {}, "log_level (RAILSTREAM_LOG_LEVEL) is wrong"),
        (["worker"], {"RAILSTREAM_CONCURENCY": "1"}, "did you mean RAILSTREAM_CONCURRENCY?"),
        (["up", "--config", "/no/such/place"], {}, "/no/such/place"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_code_2(
    arguments: list[str],
    environment: dict[str, str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.startswith("railstream: ")
    assert captured.err.count("\n") == 1


def test_an_unknown_option_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", "--concurency", "3"]) == 2
    assert "No such option: --concurency" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "railstream_worker.run", raising=False)
    monkeypatch.setitem(sys.modules, "railstream_worker.app", None)

    class Absent:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "railstream_worker.run":
                raise ModuleNotFoundError("No module named 'openai'", name="openai")

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(ConfigurationError, match=r"needs 'openai'.*pip install 'railstream\[worker\]'"):
        serve_of("worker")


def test_the_settings_that_were_chosen_are_said_without_secrets() -> None:
    settings = load(GatewaySettings, {}, redis_url="redis://:secret@redis:6379/0", api_keys="key-1,key-2", port=80)
    assert chosen(settings) == '{"api_keys": "2 configured", "port": 80, "redis_url": "redis://:***@redis:6379/0"}'


def test_python_dash_m_is_the_same_program() -> None:
    command = [sys.executable, "-m", "railstream.cli", "version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("railstream ")
