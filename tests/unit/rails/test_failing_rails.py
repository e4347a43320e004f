"""A rail that cannot decide blocks: it raises, hangs, answers nonsense, or is sync and sleeps."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from railstream.config import RailsConfig
from railstream.errors import CallError, ConfigurationError
from railstream_engine.rails.engine import RailsEngine
from unit.rails.guarding import Asked, Reader, engine, run, settle, turn

Custom = Callable[..., RailsEngine]


@pytest.fixture
def custom(tmp_path: Path) -> Custom:
    """An engine whose only output rail is the action of the given source."""

    def build(source: str, *, flow: str = "check price", stage: str = "output", timeout: float = 5) -> RailsEngine:
        header = "import asyncio, threading, time\nfrom railstream_engine.rails.judges.actions import action\n"
        header += "from railstream_engine.rails.judges.verdict import allow, block, rewrite\n"
        (tmp_path / "actions.py").write_text(header + dedent(source), "utf-8")
        (tmp_path / "config.yml").write_text(
            f"models: [{{type: main, engine: scripted, model: m}}]\n"
            f"rails:\n  output:\n    streaming: {{enabled: true, chunk_size: 4, context_size: 0, "
            f"check_timeout: {timeout}}}\n    flows: {[flow] if stage == 'output' else []}\n"
            f"  input:\n    flows: {[flow] if stage == 'input' else []}\n",
            "utf-8",
        )
        return RailsEngine(RailsConfig.from_path(tmp_path))

    return build


async def outcome(rails: RailsEngine, *deltas: str) -> Reader:
    reader = Reader()
    return await run(rails.guard(turn(Asked("no")), reader.release, reader.block), reader, deltas or ("a", "b"))


def failure(reader: Reader) -> str:
    assert reader.text == ""
    assert reader.violation is not None
    assert (reader.violation.type, reader.violation.code) == ("internal_error", "rail_execution_failure")
    return reader.violation.message


async def test_an_action_that_raises_blocks(custom: Custom) -> None:
    rails = custom("@action()\nasync def check_price(text):\n    raise ValueError('no price list')")
    assert failure(await outcome(rails)) == "Internal error in check price rail: it raised ValueError"


@pytest.mark.parametrize("returned", ["None", "'yes'", "0.7", "{'allowed': True}", "[]", "rewrite(None)"])
async def test_an_action_that_returns_no_verdict_blocks(custom: Custom, returned: str) -> None:
    rails = custom(f"@action()\nasync def check_price(text):\n    return {returned}")
    assert failure(await outcome(rails)).startswith("Internal error in check price rail: ")


async def test_an_action_that_hangs_blocks_after_its_time(custom: Custom) -> None:
    rails = custom("@action()\nasync def check_price(text):\n    await asyncio.Event().wait()", timeout=0.05)
    assert failure(await outcome(rails)) == "Internal error in check price rail: no answer within 0.05 s"


async def test_an_action_that_cancels_itself_blocks(custom: Custom) -> None:
    rails = custom("@action()\nasync def check_price(text):\n    raise asyncio.CancelledError")
    assert failure(await outcome(rails)) == "Internal error in check price rail: it cancelled itself"


@pytest.mark.parametrize("raised", ["SystemExit(1)", "StopIteration('x')", "KeyboardInterrupt()"])
async def test_a_sync_action_that_raises_what_it_should_not_blocks(custom: Custom, raised: str) -> None:
    rails = custom(f"@action()\ndef check_price(text):\n    raise {raised}", timeout=2)
    assert "check price rail: " in failure(await outcome(rails))


async def test_a_sync_action_that_blocks_its_thread_leaves_other_streams_unmoved(custom: Custom) -> None:
    rails = custom("@action()\ndef check_price(context):\n    return context['gate'].wait(10)")
    gate = threading.Event()
    stuck, other = Reader(), Reader()
    guard = rails.guard(turn(context={"gate": gate}), stuck.release, stuck.block)
    assert guard is not None
    for delta in "abcd":
        stuck.push(guard, delta)
    await settle()
    plain = engine({"output": {"flows": ["regex check output"]}, "config": PATTERNS})
    await run(plain.guard(turn(), other.release, other.block), other, ["free"])
    assert (other.text, stuck.text) == ("free", "")
    gate.set()
    await guard.finish()
    assert stuck.text == "abcd"


PATTERNS = {"regex_detection": {"output": {"patterns": ["forbidden"]}}}


async def test_a_sync_action_that_never_returns_blocks_after_its_time(custom: Custom) -> None:
    rails = custom("@action()\ndef check_price(text):\n    threading.Event().wait(30)", timeout=0.05)
    assert failure(await outcome(rails)) == "Internal error in check price rail: no answer within 0.05 s"


@pytest.mark.parametrize("answer", ["", "perhaps", "I cannot tell.", "Is it safe? No idea: it is unsafe and safe"])
async def test_a_judge_that_answers_nonsense_blocks(answer: str) -> None:
    rails = engine(
        {"output": {"flows": ["self check output"], "streaming": {"enabled": True}}},
        prompts=[{"task": "self_check_output", "content": "Bad? {{ bot_response }}"}],
    )
    reader = Reader()
    await run(rails.guard(turn(Asked(answer)), reader.release, reader.block), reader, ["text"])
    said = f"the model's answer of {len(answer)} characters is no verdict"
    assert failure(reader) == f"Internal error in self check output rail: {said}"


async def test_a_judges_call_that_fails_blocks() -> None:
    async def unavailable(*_: object, **__: object) -> str:
        raise CallError("no capacity to judge 'the text in question'", code="overloaded")

    rails = engine(
        {"output": {"flows": ["self check output"], "streaming": {"enabled": True}}},
        prompts=[{"task": "self_check_output", "content": "Bad? {{ bot_response }}"}],
    )
    reader = Reader()
    await run(rails.guard(turn(unavailable), reader.release, reader.block), reader, ["text"])
    assert failure(reader) == "Internal error in self check output rail: the provider is overloaded"


async def test_at_once_the_first_failure_wins_and_the_others_are_cancelled(custom: Custom) -> None:
    asked = Asked()
    rails = engine(
        {"output": {"flows": ["self check output", "self check output $variant=b"], "parallel": True}},
        prompts=[
            {"task": "self_check_output", "content": "A {{ bot_response }}"},
            {"task": "self_check_output $variant=b", "content": "B {{ bot_response }}"},
        ],
    )
    reader = Reader()
    guard = rails.guard(turn(asked), reader.release, reader.block, streaming=False)
    assert guard is not None
    reader.push(guard, "text")
    finishing = asyncio.ensure_future(guard.finish())
    await asked.came(2)
    await asked.say(1, "hm")
    await finishing
    assert "self check output $variant=b rail" in failure(reader)
    assert asked.cancelled == 1


async def test_an_input_rail_that_fails_blocks_the_message(custom: Custom) -> None:
    rails = custom("@action()\nasync def check_price(text):\n    raise ValueError('no list')", stage="input")
    _, violation = await rails.check_input(turn())
    assert violation is not None
    assert violation.stage == "input"
    assert violation.message == "Internal error in check price rail: it raised ValueError"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "@action()\ndef other(text): ...",
            "there is no action 'check_price' in actions.py beside the config; there: other",
        ),
        ("@action()\ndef check_price(llm_task_manager): ...", "no value for its parameter 'llm_task_manager'"),
        ("@action()\ndef check_price(txet): ...", "no value for its parameter 'txet': known are "),
        ("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"),
    ],
)
def test_an_action_that_cannot_be_used_is_refused_when_the_engine_is_built(
    custom: Custom, source: str, reason: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        custom(source)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("flow", "extra"), [("mask sensitive data on output", "presidio"), ("injection detection", "yara")]
)
def test_a_rail_whose_extra_is_missing_names_it(flow: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("presidio_analyzer", "yara"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    detection = {
        "sensitive_data_detection": {"output": {"entities": ["PERSON"]}},
        "injection_detection": {"injections": ["sqli"]},
    }
    with pytest.raises(ConfigurationError, match=rf"pip install 'railstream\[{extra}\]'"):
        engine({"output": {"flows": [flow]}, "config": detection})
