"""Rails that need an extra, where it is installed."""

from __future__ import annotations

from typing import Any

import pytest
from railstream.errors import ConfigurationError
from unit.rails.guarding import engine, turn


def yara(**options: Any) -> Any:
    pytest.importorskip("yara")
    output = {"flows": ["injection detection"], "streaming": {"enabled": True, "context_size": 0}}
    return engine({"output": output, "config": {"injection_detection": options}})


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        ("sqli", "1; DROP TABLE users", "Use a SELECT statement."),
        ("xss", "<script>alert(1)</script>", "a link: [here](https://x.example)"),
        ("template", "{{ 7 * 7 }}", "a set {1, 2}"),
        ("code", "import os\nos.system('x')", "we import goods from os x"),
    ],
)
async def test_the_built_in_rules_block_what_an_interpreter_would_run(rule: str, bad: str, good: str) -> None:
    rails = yara(injections=[rule])
    _, violation = await rails.check_output(turn(), bad)
    assert violation is not None
    assert violation.message == "Blocked by injection detection rails."
    assert await rails.check_output(turn(), good) == (good, None)


async def test_own_rules_count_and_matches_can_be_left_out() -> None:
    rule = 'rule mine { strings: $a = "boo" condition: $a }'
    rails = yara(injections=["mine"], yara_rules={"mine": rule}, action="omit")
    assert await rails.check_output(turn(), "a boo b") == ("a  b", None)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="there is no YARA rule 'nope'; built in are code, sqli"):
        yara(injections=["nope"])


async def test_presidio_masks_what_it_finds(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    pytest.importorskip("presidio_analyzer")
    spacy: Any = pytest.importorskip("spacy")
    spacy.blank("en").to_disk(tmp_path / "model")
    monkeypatch.setattr("railstream_engine.rails.judges.local_judges.SPACY_MODEL", str(tmp_path / "model"))
    recognizer = {"supported_language": "en", "supported_entity": "BADGE",
                  "patterns": [{"name": "badge", "regex": r"B-\d{4}", "score": 0.9}]}  # fmt: skip
    detection = {"sensitive_data_detection": {"recognizers": [recognizer], "output": {"entities": ["BADGE"]}}}
    output = {"flows": ["mask sensitive data on output"], "streaming": {"enabled": True, "context_size": 0}}
    rails = engine({"output": output, "config": detection})
    assert await rails.check_output(turn(), "badge B-1234 here") == ("badge <BADGE> here", None)
