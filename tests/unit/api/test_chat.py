"""`railstream chat` from a pipe, in this process: answers on stdout, all else on stderr."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from railstream.cli.app import main

REFUSAL = "I'm sorry, I can't respond to that."
MODEL = {"type": "main", "engine": "scripted", "model": "demo"}


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """``chat("Hello", "--usage", answers=[…], rails={…})``: exit code, stdout and stderr."""

    def run(stdin: str, *options: str, answers: Any = ("You said {prompt}.",), **given: Any) -> tuple[int, str, str]:
        model = MODEL | {"parameters": {"answers": list(answers), "words_per_second": 0}}
        (tmp_path / "config.yml").write_text(yaml.safe_dump({"models": [model]} | given), "utf-8")
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = main(["chat", str(tmp_path), *options])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize("options", [[], ["--streaming"], ["--no-streaming"]])
def test_a_line_is_a_prompt(chat: Any, options: list[str]) -> None:
    assert chat("Hello\n\nBye\n", *options) == (0, "You said Hello.\nYou said Bye.\n", "")


def test_the_conversation_goes_on_until_it_is_reset(chat: Any) -> None:
    code, out, _ = chat("a\nb\n/reset\nc\n/quit\nd\n", answers=["first {prompt}", "second {prompt}"])
    assert (code, out) == (0, "first a\nsecond b\nfirst c\n")


def test_an_unknown_command_is_no_prompt(chat: Any) -> None:
    code, out, err = chat("/help\n")
    assert (code, out) == (0, "")
    assert "/quit leaves" in err


@pytest.mark.parametrize(("options", "said"), [([], "It is \n"), (["--no-streaming"], "")])
def test_blocked_text_is_shown_as_such(chat: Any, options: list[str], said: str) -> None:
    rails = {
        "config": {"terms": {"output": {"terms": ["forbidden"]}}},
        "output": {"flows": ["terms check output"], "streaming": {"enabled": True}},
    }
    code, out, err = chat("Hello\n", *options, answers=["It is forbidden fruit."], rails=rails)
    assert code == 0
    assert out.replace("It is\n", "It is \n") == f"{said}{REFUSAL}\n"
    assert err == "blocked: Blocked by terms check output rails.\n"


def test_output_rails_that_do_not_stream_are_shown_whole_and_say_so_where_streaming_was_wanted(chat: Any) -> None:
    rails = {"config": {"terms": {"output": {"terms": ["x"]}}}, "output": {"flows": ["terms check output"]}}
    assert chat("Hello\n", rails=rails)[:2] == (0, "You said Hello.\n")
    code, out, err = chat("Hello\n", "--streaming", rails=rails)
    assert (code, out) == (2, "")
    assert "rails.output.streaming.enabled" in err


def test_usage_is_printed_per_call(chat: Any) -> None:
    code, out, err = chat("Hello\n", "--usage")
    assert (code, out) == (0, "You said Hello.\n")
    assert re.fullmatch(r"general demo: 1 in, 3 out, \d+\.\d\d s\n", err)


def test_the_answers_are_written_to_a_file(chat: Any, tmp_path: Path) -> None:
    file = tmp_path / "answers.txt"
    assert chat("a\nb\n", "--streaming", "--output", str(file))[0] == 0
    assert file.read_text("utf-8") == "You said a.\nYou said b.\n"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--config", "other"], "given twice"),
        (["--server-url", "http://127.0.0.1:1"], "takes no config directory"),
        (["--model", "gpt-9"], "model 'gpt-9' is not served"),
        (["--config-id", "other"], "no rails config 'other'"),
    ],
)
def test_what_is_wrong_is_one_line(chat: Any, options: list[str], problem: str) -> None:
    code, out, err = chat("Hello\n", *options)
    assert (code, out) == (2, "")
    assert problem in err
    assert err.startswith("railstream: ")
    assert err.count("\n") == 1


def test_a_server_that_is_not_there_fails_the_command(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))
    assert main(["chat", "--server-url", "http://127.0.0.1:9", "--streaming"]) == 1
    assert "failed: http://127.0.0.1:9/v1/ does not answer" in capsys.readouterr().err
