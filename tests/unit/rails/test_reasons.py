"""The reason of a verdict is short and quotes nothing that was judged."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from railstream.config import RailsConfig
from railstream_engine.rails.engine import RailsEngine
from railstream_engine.rails.judges.reasons import MOST, shown
from railstream_engine.rails.judges.verdict import block
from unit.rails.guarding import Asked, engine, turn

MARK = "secret-123456"


@pytest.mark.parametrize(
    ("reason", "text", "left"),
    [
        ("Violence, S10", "how to hurt him", "Violence, S10"),
        (f"it says {MARK}!", f"so {MARK} it is", "it says …"),
        ("he wrote 'SECRET-123456'", f"so {MARK} it is", "he wrote …"),
        ("two\nlines\u202e and \x00 more", "x", "two lines and more"),
        ("", "x", ""),
    ],
)
def test_a_reason_loses_what_it_quotes(reason: str, text: str, left: str) -> None:
    assert shown(reason, text) == left


def test_a_reason_loses_what_it_quotes_of_the_conversation() -> None:
    assert shown(f"asked for {MARK}", "hi", [{"role": "user", "content": f"my {MARK}"}]) == "asked for …"


def test_a_reason_is_short() -> None:
    assert len(shown("why " * 100_000, "x")) == MOST


async def test_an_own_rails_reason_goes_to_the_log_of_rails_without_the_text(caplog: pytest.LogCaptureFixture) -> None:
    async def check_word(text: str) -> Any:
        return block(f"found {MARK} in: {text}" + "x" * 5000)

    rails = RailsEngine(RailsConfig.from_content(config={"rails": {"input": {"flows": ["check word"]}}}),
                        {"check_word": check_word})  # fmt: skip
    given = turn(user=f"a {MARK}")
    with caplog.at_level(logging.DEBUG):
        _, violation = await rails.check_input(given)
    assert violation is not None
    written = json.dumps(given.activated)
    assert "found" in written
    assert MARK not in written
    assert len(written) < 1000
    assert MARK not in caplog.text


async def test_a_judges_categories_quote_nothing() -> None:
    prompt = {
        "task": "content_safety_check_input $model=safety", "content": "S {{ user_input }}",
        "output_parser": "nemoguard_parse_prompt_safety",
    }  # fmt: skip
    models = [{"type": kind, "engine": "scripted", "model": kind} for kind in ("main", "safety")]
    rails = engine({"input": {"flows": ["content safety check input $model=safety"]}}, prompts=[prompt], models=models)
    given = turn(
        Asked(json.dumps({"User Safety": "unsafe", "Safety Categories": f"Violence, {MARK}"})), user=f"a {MARK}"
    )
    await rails.check_input(given)
    assert given.activated[0]["additional_info"] == {"reason": "Violence"}
