"""Every example and variation of lionpride's recipe on streaming runs as it is printed, with only the imports changed.

`recipe_blocks/` holds them verbatim. The models are the testing upstream's, named by the providers' own variables.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from railstream.sessions import InstructionContent, Message, PartialAnswerError, iModel
from railstream.testing import Script, Upstream

BLOCKS = Path(__file__).parent / "recipe_blocks"
IMPORT = re.compile(r"from lionpride[\w.]* import")
STORY = "In a small workshop a robot named ARU-7 found a brush. It was red."
RunBlock = Any


def block(name: str) -> str:
    return IMPORT.sub("from railstream.sessions import", (BLOCKS / f"{name}.txt").read_text("utf-8"))


@pytest.fixture(autouse=True)
def providers(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both providers are the upstream, as an operator would say it."""
    upstream.script = Script(text=STORY)
    for provider in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{provider}_BASE_URL", upstream.url)
        monkeypatch.setenv(f"{provider}_API_KEY", "sk-of-a-test")


@pytest.fixture
async def run(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[RunBlock, None]:
    """Run a block in this event loop; its models are closed at the end, because the recipe closes none."""
    made: list[iModel] = []
    make = iModel.__init__

    def noted(self: iModel, *args: Any, **given: Any) -> None:
        make(self, *args, **given)
        made.append(self)

    monkeypatch.setattr(iModel, "__init__", noted)

    async def run_block(name: str) -> Any:
        """The names that it defines; ``asyncio.run(…)`` of its last line is awaited, and its value is ``result``."""
        tree = ast.parse(block(name).replace("asyncio.run(", "result = await (", 1))
        names: dict[str, Any] = {}
        code = compile(tree, f"<{name}>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        done = eval(code, names)
        if inspect.isawaitable(done):
            await done
        return names

    yield run_block
    for model in made:
        await model.aclose()


@pytest.fixture
async def model() -> AsyncGenerator[iModel, None]:
    async with iModel(provider="openai", model="gpt-4o-mini", stream=True, max_retries=0) as made:
        yield made


def question(text: str = "Tell me a story.") -> Any:
    return Message(content=InstructionContent(instruction=text)).chat_msg


async def test_basic_streaming_chat(run: RunBlock, capsys: Any) -> None:
    await run("example_1")
    assert capsys.readouterr().out == f"Assistant: {STORY}\n"


async def test_streaming_with_branch_context(run: RunBlock, capsys: Any, upstream: Upstream) -> None:
    names = await run("example_2")
    session, branch = names["result"]
    assert capsys.readouterr().out == f"\nUser: Can you give me a practical example?\nAssistant: {STORY}\n\n"
    assert [session.messages[id].role for id in branch.order] == ["user", "assistant", "assistant"]
    assert session.messages[branch.order[-1]].text == STORY
    first, second = upstream.ledger
    assert [len(entry.body["messages"]) for entry in (first, second)] == [1, 3]
    assert second.body["messages"][1]["role"] == "assistant"
    assert second.body["temperature"] == 0.7


async def test_streaming_with_progress_indicators(run: RunBlock, capsys: Any, upstream: Upstream) -> None:
    upstream.script = Script(words=86)
    names = await run("example_3")
    said = "".join(Script(words=86).says())
    assert names["result"] == said
    out = capsys.readouterr().out
    assert out == f"Generating response........\n\nReceived 87 token chunks\n\nResponse:\n{said}\n"


async def test_streaming_from_several_models_in_parallel(run: RunBlock, capsys: Any, upstream: Upstream) -> None:
    upstream.models["gpt-4o-mini"] = Script(text="The future of AI is bright.")
    upstream.models["claude-3-5-haiku-20241022"] = Script(text="AI's future trajectory is open.")
    names = await run("example_4")
    assert names["result"] == ["The future of AI is bright.", "AI's future trajectory is open."]
    out = capsys.readouterr().out
    assert "[GPT] Starting..." in out
    assert "[Claude] Complete (" in out
    assert "GPT Response (27 chars):\nThe future of AI is bright...." in out


async def test_streaming_workflow_results(run: RunBlock, capsys: Any, upstream: Upstream) -> None:
    upstream.script = Script(text="Sleep, mood, heart.")
    names = await run("example_5")
    assert names is not None
    out = capsys.readouterr().out
    assert out.startswith("Executing workflow...\n\n[research] Sleep,")
    assert out.endswith("\n\nWorkflow complete!\n")
    research, article = upstream.ledger
    assert research.body["messages"][0]["content"] == "List 3 key benefits of exercise"
    asked = article.body["messages"][0]["content"]
    assert asked.endswith("Write a short article using these benefits")
    assert "Sleep, mood, heart." in asked


async def test_custom_chunk_processing(run: RunBlock, capsys: Any, model: iModel) -> None:
    names = await run("custom_chunk_processing")
    assert await names["process_stream_with_formatting"](model, question()) == STORY
    out = capsys.readouterr().out
    assert "brush. " in out
    assert out.endswith(f"\n\nTotal words: ~{len(STORY.split())}\n")


async def test_buffered_streaming(run: RunBlock, capsys: Any, model: iModel) -> None:
    names = await run("buffered_streaming")
    await names["buffered_stream"](model, question(), buffer_size=4)
    assert capsys.readouterr().out == STORY


async def test_streaming_to_a_file(run: RunBlock, capsys: Any, model: iModel, tmp_path: Path) -> None:
    names = await run("stream_to_file")
    await names["stream_to_file"](model, question(), filename=str(tmp_path / "output.txt"))
    assert (tmp_path / "output.txt").read_text("utf-8") == STORY
    assert capsys.readouterr().out.startswith("Response saved to ")


@pytest.mark.parametrize("fault", ["early_end", "reset", "error_during"])
async def test_safe_stream_returns_the_partial_text_when_the_upstream_dies(
    run: RunBlock, capsys: Any, model: iModel, upstream: Upstream, fault: Any
) -> None:
    upstream.script = Script(text=STORY, fault=fault, at=5, rate=200)
    names = await run("error_handling_in_streams")
    assert await names["safe_stream"](model, question()) == "In a small workshop a"
    out = capsys.readouterr().out
    assert "Streaming error: " in out
    assert "Received 5 chunks before error" in out


async def test_the_metadata_says_how_it_ended(model: iModel, upstream: Upstream) -> None:
    """The recipe's ``chunk.metadata.get("finish_reason")`` of OpenAI, ``"stop_reason"`` of Anthropic."""
    last = [chunk async for chunk in model.invoke(messages=[question()])][-1]
    assert last.metadata["finish_reason"] == "stop"
    assert last.usage is not None
    assert last.usage["completion_tokens"] == len(Script(text=STORY).says())
    async with iModel(
        provider="anthropic", endpoint="messages", model="claude-3-5-sonnet-20241022", stream=True
    ) as one:
        last = [chunk async for chunk in one.invoke(messages=[question()])][-1]
    assert last.metadata["stop_reason"] == "end_turn"
    assert (last.finish_reason, last.data) == ("stop", "")


async def test_without_stream_the_whole_answer_is_awaited_and_iterating_is_a_type_error() -> None:
    async with iModel(provider="openai", model="gpt-4o-mini", stream=False) as whole:
        response = await whole.invoke(messages=[question()])
        assert (response.data, response.finish_reason) == (STORY, "stop")
        with pytest.raises(TypeError, match="stream=True"):
            _ = [chunk async for chunk in whole.invoke(messages=[question()])]


async def test_breaking_out_closes_the_upstream_and_leaves_the_caller_alive(model: iModel, upstream: Upstream) -> None:
    upstream.script = Script(words=500, rate=50)
    kept = model.invoke(messages=[question()])
    async for _ in kept:
        break
    async with model.stream([question()]) as chunks:
        async for _ in chunks:
            break
    await upstream.ledger.wait(ended=2, timeout=5)
    assert [entry.outcome for entry in upstream.ledger] == ["closed_by_client"] * 2
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cut_answer_has_its_text_in_the_error(model: iModel, upstream: Upstream) -> None:
    upstream.script = Script(text=STORY, fault="early_end", at=3, rate=200)
    with pytest.raises(PartialAnswerError) as raised:
        await model.complete([question()])
    assert (raised.value.code, raised.value.partial) == ("truncated", "In a small")
