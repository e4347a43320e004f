"""Every example of NeMo Guardrails' four pages on streaming runs as it is printed there, with only the import changed.

`seed_pages/` holds them verbatim, by page. Each runs as in a notebook: awaiting at the top level, in one namespace.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import json
import re
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from harness.processes import clean_environment
from harness.sse import opened
from harness.stack import MODEL
from railstream import LLMRails, RailsConfig
from railstream.testing import Judge, Script, Upstream

PAGES = Path(__file__).parent / "seed_pages"
ANSWER = ("The capital", " of France", " is Paris", ".")
REFUSED = '{"error": {"message": "Blocked by self check output rails.", "type": "guardrails_violation", '
JUDGED = {
    "rails": {"output": {"flows": ["self check output"], "streaming": {"enabled": True}}},
    "prompts": [{"task": "self_check_output", "content": "Does this hold MARK? {{ bot_response }}"}],
}


def page(name: str) -> str:
    text = (PAGES / f"{name}.txt").read_text("utf-8").replace("nemoguardrails", "railstream")
    # Printed with one bracket and one quote too many, which Python does not take.
    return text.replace('ever written is"}]"}]', 'ever written is"}]')


def pages(name: str) -> list[str]:
    return sorted(file.stem for file in PAGES.glob(f"[0-9][0-9][0-9]_{name}.txt"))


def config_text(upstream: Upstream, **given: Any) -> str:
    parameters = {"base_url": upstream.url, "api_key": "testing", "max_retries": 0}
    models = [
        {"type": kind, "engine": "openai", "model": name, "parameters": parameters}
        for kind, name in (("main", MODEL), ("self_check_output", "judge"))
    ]
    return yaml.safe_dump({"models": models, "passthrough": True} | given)


def write_config(directory: Path, upstream: Upstream, **given: Any) -> None:
    directory.mkdir(parents=True)
    (directory / "config.yml").write_text(config_text(upstream, **given), "utf-8")


@pytest.fixture
async def here(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the configs that the pages speak of; the upstream answers, and judges `MARK`."""
    upstream.script = Script(deltas=ANSWER)
    upstream.models["judge"] = Script(judge=Judge("MARK is here"))
    for name in ("config", "examples/configs/streaming", "path/to/config"):
        write_config(tmp_path / name, upstream, streaming=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def run(code: str, **names: Any) -> dict[str, Any]:
    """Run an example, and let the tasks that it started come to their end."""
    names = {"asyncio": asyncio} | names
    before = asyncio.all_tasks()
    try:
        result = eval(compile(code, "<page>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if inspect.isawaitable(result):
            await result
        await asyncio.gather(*(asyncio.all_tasks() - before))
    finally:
        for rails in [value for value in names.values() if isinstance(value, LLMRails)]:
            await rails.aclose()
    return names


def configured(here: Path) -> RailsConfig:
    return RailsConfig.from_content(yaml_content=(here / "config" / "config.yml").read_text("utf-8"))


def shown(chunks: Any, name: str) -> str:
    """What an example prints: pages 000 and 002 a line per chunk, the others the text."""
    lined = name.startswith(("000", "002"))
    return "".join(f"CHUNK: {chunk}\n" for chunk in chunks) if lined else "".join(chunks)


@pytest.mark.parametrize("name", pages("simple"))
async def test_simple_streaming(here: Path, capsys: Any, name: str) -> None:
    await run(page(name), config=configured(here))
    assert capsys.readouterr().out == shown(ANSWER, name)


@pytest.mark.parametrize("name", pages("handler"))
async def test_streaming_with_a_handler(here: Path, capsys: Any, name: str) -> None:
    with pytest.warns(DeprecationWarning, match="use stream_async"):
        names = await run(page(name), config=configured(here))
    assert names["result"] == {"role": "assistant", "content": "".join(ANSWER)}
    said = capsys.readouterr().out
    assert said.replace(f"{names['result']}\n", "") == shown(ANSWER, name)


@pytest.mark.parametrize("name", pages("generator"))
async def test_an_external_generator(here: Path, capsys: Any, upstream: Upstream, name: str) -> None:
    await run(page(name), config=configured(here))
    assert capsys.readouterr().out == shown(["Hello", " ", "world", "!"], name)
    assert len(upstream.ledger) == 0


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("name", pages("openai_generator"))
async def test_the_openai_generator_under_output_rails(
    here: Path, capsys: Any, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, name: str, blocked: bool
) -> None:
    """`openai.ChatCompletion` was the SDK's name before its version 1: here it is today's client."""
    write_config(here / "config" / "with_output_rails", upstream, **JUDGED)
    client = openai.AsyncOpenAI(base_url=upstream.url, api_key="testing")
    monkeypatch.setattr(openai, "ChatCompletion", client.chat.completions)
    text = "Once upon a time MARK is here and so on." if blocked else "Once upon a time there was a robot."
    upstream.script = Script(text=text)
    earlier = {"LLMRails": LLMRails, "RailsConfig": RailsConfig, "AsyncIterator": AsyncIterator}
    async with client:
        await run(page(name), messages=[{"role": "user", "content": "Tell me a story"}], **earlier)
    said = capsys.readouterr().out
    assert said.startswith(REFUSED) if blocked else said == text


async def test_metadata(here: Path, capsys: Any, upstream: Upstream) -> None:
    upstream.script = Script(deltas=("Hello", "!"), prompt_tokens=75, completion_tokens=9)
    async with LLMRails(configured(here)) as rails:
        await run(page("002_metadata"), rails=rails, messages=[{"role": "user", "content": "Hello!"}])
    said = [ast.literal_eval(line) for line in capsys.readouterr().out.splitlines()]
    printed = page("002_metadata_shape").replace("gpt-4o", MODEL)
    assert said == [ast.literal_eval(part) for part in printed.strip().replace("}\n{", "}\0{").split("\0")]


async def test_metadata_that_the_provider_does_not_send_is_none(here: Path, capsys: Any, upstream: Upstream) -> None:
    upstream.script = Script(deltas=ANSWER, usage="never")
    async with LLMRails(configured(here)) as rails:
        await run(page("002_metadata"), rails=rails, messages=[{"role": "user", "content": "Hello!"}])
    last = ast.literal_eval(capsys.readouterr().out.splitlines()[-1])
    assert last["metadata"]["usage_metadata"] is None


def scripted() -> LLMRails:
    model = {"type": "main", "engine": "scripted", "model": "m"}
    model |= {"parameters": {"answers": ["one two three"], "words_per_second": 0}}
    return LLMRails(RailsConfig.from_content(config={"models": [model]}))


@pytest.mark.parametrize("name", pages("usage_log"))
def test_token_usage_of_a_log_and_of_explain(capsys: Any, name: str) -> None:
    names: dict[str, Any] = {"rails": scripted(), "messages": [{"role": "user", "content": "Hello!"}]}
    exec(page(name), names)
    said = capsys.readouterr().out
    assert said.removeprefix("Task: general\n") == "Total tokens: 4\nPrompt tokens: 1\nCompletion tokens: 3\n"
    exec(page("002_explain"), names)
    said = capsys.readouterr().out
    took = r"took \d+\.\d\d seconds and used 4 tokens\.\n\n"
    told = rf"Summary: 1 LLM call\(s\) {took}1\. Task `general` {took}"
    assert re.match(told, said)


@pytest.mark.parametrize("name", [*pages("config_0_yaml"), *pages("config_2_yaml"), *pages("output_rails_yaml")])
async def test_the_configs_of_the_pages_stream(upstream: Upstream, name: str) -> None:
    upstream.script = Script(deltas=ANSWER)
    upstream.models["judge"] = Script(judge=Judge("MARK is here"))
    rest = config_text(upstream, prompts=JUDGED["prompts"])
    config = RailsConfig.from_content(yaml_content=f"{page(name)}\n{rest}")
    async with LLMRails(config) as rails:
        said = [chunk async for chunk in rails.stream_async(prompt="Hello!")]
    assert "".join(said) == "".join(ANSWER)


@pytest.mark.parametrize("name", pages("command_0_bash"))
async def test_the_chat_commands(here: Path, name: str) -> None:
    program, *arguments = shlex.split(page(name))
    assert program == "railstream"
    chat = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "railstream.cli",
        *arguments,
        cwd=here,
        env=clean_environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await chat.communicate(b"What is the capital of France?\n")
    assert (chat.returncode, out.decode(), err.decode()) == (0, "".join(ANSWER) + "\n", "")


@pytest.mark.parametrize("name", pages("request_0_json"))
async def test_the_request_bodies(start_stack: Any, name: str) -> None:
    stack = await start_stack(
        configs={"some_config_id": {"streaming": True}, "my_config": {}}, script=Script(deltas=ANSWER)
    )
    body = json.loads(page(name))
    assert "model" not in body
    async with opened(f"{stack.url}/v1/chat/completions", body=body) as stream:
        assert stream.status == 200
        frames = await stream.read()
    assert "".join(frame.text for frame in frames) == "".join(ANSWER)


def test_no_example_is_left_out() -> None:
    kinds = {file.stem[4:] for file in PAGES.glob("*.txt")}
    with contextlib.suppress(KeyError):
        kinds.remove("metadata_shape")
    assert kinds == {
        "simple",
        "handler",
        "generator",
        "openai_generator",
        "metadata",
        "usage_log",
        "explain",
        "config_0_yaml",
        "config_2_yaml",
        "output_rails_yaml",
        "command_0_bash",
        "request_0_json",
    }
