"""A client may add rails and takes none off; a worker never runs a request under another config than the gateway's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from harness.processes import Worker
from harness.sse import fetch, opened
from harness.stack import MODEL, Stack, write_configs
from harness.waiting import until
from railstream.testing import Judge, Script

StartStack = Callable[..., Awaitable[Stack]]
SECRET = "the code is SECRET-1234, yes"
MAIN = {"type": "main", "engine": "openai", "model": MODEL}
STREAMING = {"enabled": True}
REGEX = {"regex_detection": {"output": {"patterns": ["SECRET-[0-9]{4}"]}}}
LOCKED = {
    "models": [MAIN],
    "rails": {"output": {"flows": ["regex check output"], "streaming": STREAMING}, "config": REGEX},
}
JUDGE = {"type": "self_check_facts", "engine": "openai", "model": "judge"}
CONFIGS: dict[str, Any] = {
    "locked": LOCKED,
    "open": LOCKED | {"railstream": {"allow_request_rails": True}},
    "said": LOCKED | {"railstream": {"allow_request_rails": False}},
    "plain": {"models": [MAIN]},
    "facts": {
        "models": [MAIN, JUDGE],
        "prompts": [{"task": "self_check_facts", "content": "Is it so? {{ response }} {{ evidence }}"}],
        "rails": {"output": {"flows": ["self check facts"], "streaming": STREAMING}},
    },
}
OFF: list[dict[str, Any]] = [
    {"rails": {"output": False}},
    {"rails": {"output": [], "input": False}},
    {"rails": {"output": ["another"]}},
    {"rails": ["input"]},
]


async def answer(stack: Stack, ids: list[str], **given: Any) -> tuple[int, str]:
    messages = [{"role": "user", "content": "Say it."}]
    body = {"model": MODEL, "messages": messages, "guardrails": {"config_ids": ids}} | given
    status, found = await fetch(f"{stack.url}/v1/chat/completions", body=body)
    return status, json.dumps(found)


@pytest.fixture
async def stack(start_stack: StartStack) -> Stack:
    judge = Script(judge=Judge("SECRET", hit="no", miss="yes"))
    return await start_stack(configs=CONFIGS, script=Script(text=SECRET, piece=3), models={"judge": judge})


@pytest.mark.parametrize("options", OFF)
async def test_options_switch_no_rail_off(stack: Stack, options: dict[str, Any]) -> None:
    for ids in (["locked"], ["said"], ["locked", "open"], ["open", "locked"], ["said", "open"], ["plain", "locked"]):
        status, found = await answer(stack, ids, options=options)
        assert status == 400, (ids, found)
        assert "rails_locked" in found
        assert "allow_request_rails" in found
    assert len(stack.upstream.ledger) == 0
    status, found = await answer(stack, ["open"], options=options)
    assert (status, "SECRET-1234" in found) == (200, True), "where the config allows it, a request may"


async def test_options_that_keep_every_rail_are_taken(stack: Stack) -> None:
    for options in (
        {"rails": {"output": True}},
        {"rails": ["input", "output"]},
        {"rails": {"output": ["regex check output"]}},
    ):
        status, found = await answer(stack, ["locked"], options=options)
        assert status == 200, found
        assert "SECRET-1234" not in found


async def test_a_context_switches_no_rail_off(stack: Stack) -> None:
    for context in ({"check_facts": False, "relevant_chunks": "x"}, {"check_facts": False}, {}):
        status, found = await answer(stack, ["facts"], context=context)
        assert status == 200, found
        assert "SECRET-1234" not in found, context


async def apart(start_stack: StartStack, tmp_path: Path, **environment: str) -> tuple[Stack, Path, Worker]:
    """A gateway and a worker whose copies of the config `locked` differ; and where the gateway's are."""
    stack = await start_stack(configs=CONFIGS, script=Script(text=SECRET), gateways=0, workers=0)
    right, copy = stack.config, tmp_path / "copy"
    stack.add_gateway()
    shutil.copytree(right, copy)
    stack.config = write_configs(copy, stack.upstream.url, {"locked": {"models": [MAIN]}})
    worker = stack.add_worker(**environment)
    await stack.ready()
    return stack, right, worker


async def test_a_worker_with_another_copy_of_a_config_runs_nothing_of_it(
    start_stack: StartStack, tmp_path: Path
) -> None:
    stack, _, _ = await apart(start_stack, tmp_path)
    status, found = await answer(stack, ["locked"])
    assert status == 503
    assert "config_mismatch" in found
    async with stack.ask(guardrails={"config_id": "locked"}) as stream:
        assert stream.status == 503
        assert json.loads(await stream.body())["error"]["code"] == "config_mismatch"
    operations = [{"id": "one", "model": MODEL, "instruction": "Say it.", "config_id": "locked"}]
    async with opened(f"{stack.url}/v1/flows", body={"operations": operations, "stream": True}) as flow:
        assert b"config_mismatch" in await flow.body()
    assert len(stack.upstream.ledger) == 0
    assert (await answer(stack, ["plain"]))[0] == 200, "what is the same on both sides is served"


async def test_a_worker_may_leave_such_a_job_to_one_that_holds_its_config(
    start_stack: StartStack, tmp_path: Path
) -> None:
    quick = {"RAILSTREAM_SCAN": "0.2", "RAILSTREAM_LEASE": "2"}
    stack, right, other = await apart(start_stack, tmp_path, RAILSTREAM_ON_CONFIG_MISMATCH="hand_back", **quick)
    async with stack.ask(guardrails={"config_id": "locked"}) as stream:
        await until(lambda: "handed back, since its config" in other.output(), what="the job is handed back")
        stack.config = right
        await stack.add_worker(**quick).ready()
        frames = await stream.read()
    errors = [frame.json["error"]["code"] for frame in frames if not frame.done and "error" in frame.json]
    assert errors == ["content_blocked"]
