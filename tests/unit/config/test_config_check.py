"""`railstream check`: what it prints, and what it refuses without running anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from railstream.cli.check import check
from railstream.config import RailsConfig
from railstream.config.action_names import action_names, missing_actions
from railstream.config.notes import notes
from railstream.errors import ConfigurationError

Write = Callable[[str, str], Path]

CONFIG = """
models:
  - {type: main, engine: openai, model: gpt-4o-mini, api_key_env_var: MY_KEY}
rails:
  config: {terms: {output: {terms: [forbidden fruit]}}}
  input: {flows: [check length]}
  output:
    flows: [terms check output, self check output, self check facts]
    streaming: {enabled: true, chunk_size: 40}
prompts:
  - {task: self_check_output, content: "Is {{ bot_response }} bad?"}
  - {task: self_check_facts, content: "Does {{ evidence }} say so?"}
"""


def test_it_says_what_each_rail_holds_back(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    write("actions.py", "@action\nasync def check_length(context): ...\n")
    check(write("config.yml", CONFIG))
    printed = " ".join(capsys.readouterr().out.split())
    assert "gpt-4o-mini main, openai at https://api.openai.com/v1, key $MY_KEY (not set here)" in printed
    assert "check length the whole message" in printed
    assert "terms check output each character: holds back at most 16 characters, those that may still" in printed
    assert "self check output windows: holds back up to 40 deltas until their check has passed" in printed
    assert "self check facts the whole answer: holds back everything until it is complete" in printed
    assert "note: stream_first is False unless set (NeMo: True)" in printed


def test_a_flow_without_its_action_is_refused_with_the_nearest(write: Write) -> None:
    write("actions.py", "from railstream import action\n\n@action()\ndef check_lenght(context): ...\n")
    with pytest.raises(ConfigurationError, match=r"'check_length' in actions.py; did you mean 'check lenght'\?"):
        check(write("config.yml", CONFIG.replace("api_key_env_var: MY_KEY", "mode: chat")))


def test_actions_are_named_by_their_functions_or_their_decorators(write: Write) -> None:
    write("config.yml", "rails: {output: {flows: [a, b c, d, self chek output]}}")
    write("actions.py", "@action\ndef a(): ...\n@rs.action(name='b c')\ndef x(): ...\ndef d(): ...\nraise SystemExit")
    path = write("actions/more.py", "@action()\nasync def e(): ...\n")
    config = RailsConfig.from_path(path)
    assert action_names(config) == {"a", "b c", "e"}
    missing = missing_actions(config)
    assert [flow.text for flow, _ in missing] == ["d", "self chek output"]
    assert missing[1][1] == "; did you mean 'self check output'?"


def test_notes_tell_what_has_no_effect_and_what_differs() -> None:
    def of(text: str) -> str:
        return "\n".join(notes(RailsConfig.from_content(yaml_content=text)))

    assert of("") == ""
    assert "`streaming` has no effect" in of("streaming: true")
    assert "is never called" in of("models: [{type: embeddings, engine: FastEmbed, model: m}]")
    assert "`cache` of the model 'm'" in of("models: [{type: x, engine: nim, model: m, cache: {enabled: true}}]")
    assert "refused with 400" in of("rails: {output: {flows: [my own]}}")
    own = "rails: {output: {flows: [my own], streaming: {enabled: true, stream_first: true}}}"
    assert "shows text before my own has checked it" in of(own)
    assert "moves on by 150 only" in of(own)
    pii = "rails: {output: {flows: [mask pii on output], streaming: {enabled: true, chunk_size: 4}}}"
    assert "no output rail judges windows" in of(pii)
    lost = "models: [{type: main, engine: %s, model: m, railstream: {on_worker_loss: continue}}]"
    assert "most models of 'openai' answer it instead" in of(lost % "openai")
    assert of(lost % "mistral") == ""
    retrieval = "rails: {config: {regex_detection: {retrieval: {patterns: [x]}}}}"
    assert "`rails.config.regex_detection.retrieval` has no effect" in of(retrieval)
