"""The request log of real gateways and workers: one line per request on each, without content."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from harness.processes import Process
from harness.sse import fetch
from harness.stack import Stack
from harness.waiting import until
from railstream.testing import Script, directive

StartStack = Callable[..., Awaitable[Stack]]
SECRET = "tangerine"
TERMS = {
    "config": {"terms": {"output": {"terms": ["forbidden"]}}},
    "output": {"flows": ["terms check output"], "streaming": {"enabled": True}},
}


def lines(process: Process, request_id: str = "") -> list[dict[str, Any]]:
    """The lines of the request log, of one request or of all."""
    found = [json.loads(line) for line in process.output().splitlines() if line.startswith("{")]
    requests = [line for line in found if line["message"] == "request"]
    return [line for line in requests if not request_id or line.get("request_id") == request_id]


async def line_of(process: Process, request_id: str) -> dict[str, Any]:
    (found,) = await until(lambda: lines(process, request_id), what=f"the line of {request_id} of {process.name}")
    assert isinstance(found, dict)
    return found


async def ask(stack: Stack, text: str, **given: Any) -> str:
    async with stack.ask(f"{SECRET} {text}", **given) as stream:
        await stream.body()
        return str(stream.request_id)


@pytest.mark.parametrize("streaming", [True, False])
async def test_both_sides_write_one_line_per_request_with_the_same_facts(
    start_stack: StartStack, streaming: bool
) -> None:
    stack = await start_stack(
        configs={"main": {}, "guarded": {"rails": TERMS}}, environment={"RAILSTREAM_API_KEYS": "testing"}
    )
    headers = {"authorization": "Bearer testing"}
    fine = await ask(stack, directive(text="All is well."), headers=headers, stream=streaming)
    at_gateway, at_worker = await line_of(stack.gateways[0], fine), await line_of(stack.workers[0], fine)
    for line in (at_gateway, at_worker):
        assert (line["outcome"], line["finish_reason"], line["level"]) == ("finished", "stop", "info")
        assert (line["model"], line["config"], line["kind"], line["attempt"]) == ("testing", "guarded", "chat", 1)
        assert line["output_tokens"] == 3
        assert len(line["key"]) == 16
        assert 0 < line["seconds"] < 30
    assert (at_gateway["status"], at_gateway["method"], at_gateway["route"]) == (200, "POST", "/v1/chat/completions")
    assert ("first_event_seconds" in at_gateway) == streaming
    assert at_gateway["trace_id"] != ""
    assert at_worker["deliveries"] == 1
    assert "waited_seconds" in at_worker

    blocked = await ask(
        stack,
        directive(text="It is forbidden."),
        headers=headers,
        stream=streaming,
        guardrails={"config_id": "guarded"},
    )
    for process in stack.processes:
        line = await line_of(process, blocked)
        assert (line["outcome"], line["code"], line["rail"]) == ("blocked", "content_blocked", "terms check output")
    failed = await ask(
        stack, directive(words=9, fault="early_end", at=4), headers=headers, stream=streaming,
        guardrails={"config_id": "main"},
    )  # fmt: skip
    for process in stack.processes:
        line = await line_of(process, failed)
        assert (line["outcome"], line["code"], line["config"]) == ("failed", "truncated", "main")

    status, _ = await fetch(
        f"{stack.gateways[0].api}/chat/completions", body={}, headers={"authorization": "Bearer no"}
    )
    assert status == 401
    (refused,) = await until(lambda: [one for one in lines(stack.gateways[0]) if one["outcome"] == "refused"])
    assert (refused["status"], refused["code"]) == (401, "invalid_api_key")
    for process in stack.processes:
        assert SECRET not in process.output()
        assert "forbidden" not in process.output()


async def test_a_client_that_leaves_is_a_cancelled_line(start_stack: StartStack) -> None:
    stack = await start_stack(script=Script(words=50, hold=3))
    async with stack.ask("Count.") as stream:
        await stream.read(frames=2)
        request_id = stream.request_id
    for process in stack.processes:
        line = await line_of(process, request_id)
        assert line["outcome"] == "cancelled"


@pytest.mark.parametrize(("choice", "fine", "bad"), [("failed", 0, 1), ("off", 0, 0), ("0", 0, 1), ("1", 1, 1)])
async def test_fine_requests_are_sampled_and_failed_ones_always_written(
    start_stack: StartStack, choice: str, fine: int, bad: int
) -> None:
    stack = await start_stack(environment={"RAILSTREAM_REQUEST_LOG": choice})
    first = await ask(stack, directive(text="All is well."))
    second = await ask(stack, directive(words=9, fault="early_end", at=4))
    await fetch(f"{stack.gateways[0].api}/models")  # its line would follow those that are looked for
    for process in stack.processes:
        if bad:
            await line_of(process, second)
        assert len(lines(process, first)) == fine
        assert len(lines(process, second)) == bad


async def test_a_refused_provider_key_is_a_line_at_the_worker_and_once_a_minute(start_stack: StartStack) -> None:
    stack = await start_stack(configs={"guarded": {"rails": TERMS}})
    for status in (401, 401, 403):
        await ask(stack, directive(fault="error_before", status=status))
    worker = stack.workers[0]
    found = [json.loads(line) for line in worker.output().splitlines() if "provider 'openai'" in line]
    assert [line["level"] for line in found] == ["error", "error"]
    assert found[0]["message"] == (
        "provider 'openai' refused the API key: model 'testing'; see its key (OPENAI_API_KEY, unless the config names "
        "another variable) where the worker runs"
    )
    assert "right to this model" in found[1]["message"]
