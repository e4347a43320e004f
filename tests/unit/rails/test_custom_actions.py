"""Rails of one's own: found beside the config, filled in by name, read as a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from railstream.config import RailsConfig
from railstream.errors import RailError
from railstream_engine.rails.engine import RailsEngine
from railstream_engine.rails.judges.verdict import allow, block, rewrite, verdict_of
from unit.rails.guarding import Asked, Reader, run, turn

Build = Callable[..., RailsEngine]
HEADER = "from railstream_engine.rails.judges.actions import action\n"
HEADER += "from railstream_engine.rails.judges.verdict import allow, block, rewrite\n"


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def build_one(source: str, *flows: str, file: str = "actions.py", streaming: str = "enabled: true") -> RailsEngine:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(HEADER + dedent(source), "utf-8")
        listed = "".join(f"\n    - {flow}" for flow in flows)
        (tmp_path / "config.yml").write_text(
            "models: [{type: main, engine: scripted, model: m}, {type: judge, engine: scripted, model: j}]\n"
            f"rails:\n  output:\n    streaming: {{{streaming}}}\n    flows:{listed}\n",
            "utf-8",
        )
        return RailsEngine(RailsConfig.from_path(tmp_path))

    return build_one


async def released(rails: RailsEngine, *deltas: str, **more: Any) -> Reader:
    reader = Reader()
    return await run(rails.guard(turn(**more), reader.release, reader.block), reader, deltas)


@pytest.mark.parametrize(
    ("returned", "text", "blocked"),
    [("True", "a b", False), ("False", "", True), ("allow()", "a b", False), ("block('dear')", "", True)],
)
async def test_an_action_says_yes_or_no_with_a_bool_or_a_verdict(
    build: Build, returned: str, text: str, blocked: bool
) -> None:
    reader = await released(build(f"@action()\ndef check_price(text): return {returned}", "check price"), "a ", "b")
    assert (reader.text, reader.violation is not None) == (text, blocked)


async def test_an_action_rewrites_its_window(build: Build) -> None:
    rails = build(
        "@action()\nasync def shout(text): return rewrite(text.upper())",
        "shout",
        streaming="enabled: true, chunk_size: 2, context_size: 0",
    )
    reader = await released(rails, "a ", "b ", "c ")
    assert reader.pieces == ["A B ", "C "]
    assert reader.consumed == 6


async def test_a_rewrite_that_leaves_its_context_alone_is_taken_with_any_window(build: Build) -> None:
    rails = build(
        "@action()\nasync def tame(text): return rewrite(text.replace('bad', '***'))",
        "tame",
        streaming="enabled: true, chunk_size: 2, context_size: 2",
    )
    assert (await released(rails, "ok ", "ok ", "bad ", "ok ")).text == "ok ok *** ok "
    reader = await released(rails, "bad ", "ok ", "bad ", "ok ")
    assert reader.text == "*** ok "
    assert reader.violation is not None  # the context is judged again as the model wrote it
    assert reader.violation.code == "rail_execution_failure"


async def test_a_rewrite_of_text_that_left_first_blocks(build: Build) -> None:
    rails = build(
        "@action()\ndef tame(text): return rewrite('x')", "tame", streaming="enabled: true, stream_first: true"
    )
    reader = await released(rails, "a ")
    assert reader.violation is not None
    assert reader.violation.message == ("Internal error in tame rail: it rewrote text that had already been released")


async def test_parameters_are_filled_in_by_name(build: Build) -> None:
    rails = build(
        """
        @action(name="look at")
        async def anything(context, text, config, llms, model_name, strict, *, user_message, missing=3):
            assert context["bot_message"] == text == "answer"
            assert context["user_message"] == user_message == "question"
            assert context["tenant"] == "t1" and context["triggered_output_rail"].startswith("look at")
            assert sorted(llms) == ["judge", "main"] and model_name == "judge"
            assert (strict, missing) == ("answer", 3)
            assert config.model_of("judge").model == "j"
            return True
        """,
        'look at $model=judge $strict="$bot_message"',
    )
    reader = await released(rails, "answer", user="question", context={"tenant": "t1"})
    assert reader.violation is None, reader.violation


async def test_an_action_asks_models_through_the_turn(build: Build) -> None:
    asked = Asked("fine")
    rails = build(
        """
        @action()
        async def check_tone(text, llm, judge_llm, **kwargs):
            return await llm("Rude? " + text, temperature=0) == await judge_llm([{"role": "user", "content": "x"}])
        """,
        "check tone",
    )
    reader = await released(rails, "hi", ask=asked)
    assert reader.violation is None
    assert (asked.questions, asked.models, asked.tasks) == (["Rude? hi", "x"], ["main", "judge"], ["check_tone"] * 2)
    assert asked.params[0] == {"temperature": 0}


async def test_actions_are_found_in_a_directory_and_written_as_classes_too(build: Build) -> None:
    source = "@action(name='check_price')\nclass Prices:\n    def run(self, text): return block('dear')"
    reader = await released(build(source, "check price", file="actions/prices.py"), "a")
    assert reader.violation is not None
    assert reader.violation.message == "Blocked by check price rails."


class Decision(StrEnum):
    ALLOW = "allow"
    BLOCK = "block"
    TRANSFORM = "transform"


@dataclass
class Outcome:
    """The form of NeMo's RailOutcome."""

    decision: Decision
    reason: str | None = None
    transform_text: dict[str, str] = field(default_factory=dict)


def test_an_outcome_of_nemos_form_is_a_verdict() -> None:
    assert verdict_of(Outcome(Decision.ALLOW), "output") == allow()
    assert verdict_of(Outcome(Decision.BLOCK, "why"), "output") == block("why")
    assert verdict_of(Outcome(Decision.TRANSFORM, transform_text={"bot_message": "x"}), "output") == rewrite("x")
    with pytest.raises(RailError, match="something other than user_message"):
        verdict_of(Outcome(Decision.TRANSFORM, transform_text={"bot_message": "x"}), "input")
