"""A provider's API key that is not set is named by its variable at start, in `check` and to the client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from harness.commands import railstream
from harness.processes import Worker
from harness.sse import fetch
from harness.stack import Stack, write_configs
from railstream.testing import Script

StartStack = Callable[..., Awaitable[Stack]]
KEYLESS = {
    "type": "main",
    "engine": "groq",
    "model": "llama",
    "api_key_env_var": "TEAM_GROQ_KEY",
    "parameters": {"api_key": None},
}
GUARDED = {
    "config": {"terms": {"output": {"terms": ["forbidden"]}}},
    "output": {"flows": ["terms check output"], "streaming": {"enabled": True}},
}
JUDGE = {
    "type": "self_check_input",
    "engine": "groq",
    "model": "judge",
    "api_key_env_var": "TEAM_GROQ_KEY",
    "parameters": {"api_key": None},
}
MAIN = {"type": "main", "engine": "openai", "model": "testing"}
JUDGED = {
    "models": [MAIN, JUDGE],
    "rails": {"input": {"flows": ["self check input"]}},
    "prompts": [{"task": "self_check_input", "content": "Is it fine? {{ user_input }}"}],
}
REMEDY = "needs the environment variable TEAM_GROQ_KEY, which is not set; set it where the worker runs"


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_config_without_its_key_fails_by_name_and_stops_no_other(
    start_stack: StartStack, streaming: bool
) -> None:
    stack = await start_stack(
        configs={
            "plain": {},
            "keyless": {"models": [KEYLESS]},
            "guarded": {"models": [KEYLESS], "rails": GUARDED},
            "judged": JUDGED,
        },
        script=Script(text="All is well."),
    )
    assert f"config 'keyless': model 'llama' (groq) {REMEDY}" in stack.workers[0].output()
    messages = [{"role": "user", "content": "Hello"}]
    for id in ("keyless", "guarded"):
        async with stack.ask(model=None, stream=streaming, guardrails={"config_id": id}) as stream:
            text = (await stream.body()).decode()
            assert f'"message":"model \'llama\' (groq) {REMEDY}"' in text
            assert '"code":"missing_key"' in text
            assert stream.status == 502
    body = {"messages": messages, "guardrails": {"config_id": "judged"}}
    _, answer = await fetch(f"{stack.gateways[0].api}/chat/completions", body=body)
    assert "TEAM_GROQ_KEY" in str(answer)
    body = {"messages": messages, "guardrails": {"config_id": "plain"}}
    status, answer = await fetch(f"{stack.gateways[0].api}/chat/completions", body=body)
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "All is well.")


async def test_a_worker_that_could_serve_nothing_does_not_start(tmp_path: Path, redis_url: str) -> None:
    configs = write_configs(tmp_path / "configs", "http://127.0.0.1:1", {"keyless": {"models": [KEYLESS]}})
    worker = Worker("worker", redis_url=redis_url, config=configs, directory=tmp_path, concurrency=1)
    assert await worker.start().wait() == 2
    assert f"railstream: no config can be served: config 'keyless': model 'llama' (groq) {REMEDY}" in worker.output()
    up = await railstream("up", "--port", "0", "--config", str(configs))
    assert up.code == 2
    assert REMEDY in up.err
    assert up.err.count("\n") == 1


async def test_check_names_the_variable(tmp_path: Path) -> None:
    configs = write_configs(tmp_path / "configs", "http://127.0.0.1:1", {"keyless": {"models": [KEYLESS]}})
    said = await railstream("check", str(configs))
    assert said.code == 0
    assert REMEDY in " ".join(said.out.split())
