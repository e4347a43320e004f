"""`explain`: the calls of one answer, and of nobody else's."""

from __future__ import annotations

import asyncio
from typing import Any

from railstream import ExplainInfo, LLMRails, RailsConfig, ScriptedModel
from railstream.testing import Judge, Script, Upstream
from railstream_engine.api import LLMCallInfo


def rails_of(name: str) -> LLMRails:
    return LLMRails(RailsConfig.from_content(config={}), llm=ScriptedModel(name, answers=["Hi."], words_per_second=0))


def models_of(rails: LLMRails) -> list[str | None]:
    return [call.llm_model_name for call in rails.explain().llm_calls]


def test_the_summary_is_nemos_text(capsys: Any) -> None:
    info = ExplainInfo()
    info.print_llm_calls_summary()
    assert capsys.readouterr().out == "No LLM calls were made.\n"
    info.llm_calls = [
        LLMCallInfo(task="self_check_input", duration=0.494, total_tokens=190),
        LLMCallInfo(task="general", duration=0.94, total_tokens=137),
    ]
    info.print_llm_calls_summary()
    assert capsys.readouterr().out == (
        "Summary: 2 LLM call(s) took 1.43 seconds and used 327 tokens.\n\n"
        "1. Task `self_check_input` took 0.49 seconds and used 190 tokens.\n"
        "2. Task `general` took 0.94 seconds and used 137 tokens.\n\n"
    )
    info.llm_calls = [LLMCallInfo(task="general", duration=0.58)]
    info.print_llm_calls_summary()
    assert capsys.readouterr().out == (
        "Summary: 1 LLM call(s) took 0.58 seconds .\n\n1. Task `general` took 0.58 seconds .\n\n"
    )


async def test_calls_do_not_add_up_from_answer_to_answer() -> None:
    rails = rails_of("one")
    for _ in range(3):
        await rails.generate_async(prompt="Hello")
        assert models_of(rails) == ["one"]
    first = rails.explain()
    async for _ in rails.stream_async(prompt="Hello"):
        pass
    assert models_of(rails) == ["one"]
    assert rails.explain() is not first
    await rails.check_async([{"role": "user", "content": "Hello"}])
    assert models_of(rails) == []


async def test_instances_know_nothing_of_each_other() -> None:
    one, two = rails_of("one"), rails_of("two")
    await one.generate_async(prompt="Hello")
    await two.generate_async(prompt="Hello")
    assert (models_of(one), models_of(two)) == (["one"], ["two"])
    assert models_of(rails_of("three")) == []


async def test_tasks_know_nothing_of_each_other() -> None:
    rails = LLMRails(RailsConfig.from_content(config={}), llm=ScriptedModel("one", words_per_second=0))

    async def ask(prompt: str) -> list[str | None]:
        await rails.generate_async(prompt=prompt)
        await asyncio.sleep(0)
        return [call.prompt for call in rails.explain().llm_calls]

    prompts = [f"number {number}" for number in range(20)]
    assert await asyncio.gather(*map(ask, prompts)) == [[prompt] for prompt in prompts]
    assert models_of(rails) == [], "this task has asked nothing"


def test_after_the_event_loop_the_last_answer_is_explained() -> None:
    rails = rails_of("one")
    asyncio.run(rails.generate_async(prompt="Hello"))
    assert models_of(rails) == ["one"]
    rails.generate(prompt="Hello")
    assert models_of(rails) == ["one"]


async def test_the_judges_calls_of_a_stream_are_explained(
    build_rails: Any, ask: Any, judged: Any, upstream: Upstream
) -> None:
    upstream.models["judge"] = Script(judge=Judge(marker="forbidden"))
    rails = build_rails(Script(words=12), judges={"self_check_output": "judge"}, **judged)
    async for _ in rails.stream_async(messages=ask):
        pass
    tasks = [call.task for call in rails.explain().llm_calls]
    assert tasks.count("general") == 1
    assert tasks.count("self_check_output") == len(upstream.ledger.calls(model="judge")) == 3


async def test_an_answer_that_was_left_is_explained_as_far_as_it_came(build_rails: Any, ask: Any) -> None:
    rails = build_rails(Script(words=200, hold=5))
    stream = rails.stream_async(messages=ask)
    said = [await anext(stream) for _ in range(5)]
    await stream.aclose()
    (call,) = rails.explain().llm_calls
    assert call.completion == "".join(said)
    assert call.total_tokens is None, "the provider had not told yet, and nothing is estimated"
