"""One config, over HTTP and over the Python API: the same text and the same verdict."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from harness.sse import Frame, fetch
from harness.stack import Stack, model
from railstream import LLMRails, RailsConfig
from railstream.events import Blocked, Failed, Finished
from railstream.testing import Judge, Script

StartStack = Callable[..., Awaitable[Stack]]
ON = {"enabled": True}
REGEX = {"regex_detection": {"output": {"patterns": [r"secret-\d+"]}}}
MAIL = {"pii_patterns": {"output": {"entities": ["email"]}}}
REGEX_RAILS = {"config": REGEX, "output": {"flows": ["regex check output"], "streaming": ON}}
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "regex": {"rails": REGEX_RAILS},
    "refusal": {"rails": REGEX_RAILS, "railstream": {"on_violation": "refusal"}},
    "filter": {"rails": REGEX_RAILS, "railstream": {"on_violation": "content_filter"}},
    "mask": {"rails": {"config": MAIL, "output": {"flows": ["mask pii on output"], "streaming": ON}}},
    "judge": {
        "rails": {"output": {"flows": ["self check output"], "streaming": ON | {"chunk_size": 4, "context_size": 2}}},
        "prompts": [{"task": "self_check_output", "content": "Does this hold MARK? {{ bot_response }}"}],
    },
}
TEXTS = (
    "All is well, and nothing more.",
    "The key is secret-123, write to joe@example.com.",
    "One two three four five six seven MARK is here eight nine ten eleven twelve.",
)


def models(upstream_url: str) -> list[dict[str, Any]]:
    return [model(upstream_url), model(upstream_url, type="self_check_output", model="judge")]


def verdict(frames: list[Frame]) -> tuple[str, Any]:
    """The text of a stream, and how it ended."""
    text = "".join(frame.text for frame in frames)
    said = [frame.json for frame in frames if frame.data != "[DONE]"]
    return text, said[-1].get("error") or said[-1]["choices"][0]["finish_reason"]


def expected(text: str, ended: Any) -> tuple[str, Any]:
    match ended:
        case Finished():
            return text, ended.finish_reasons[0]
        case Blocked(form="refusal"):
            return text + ended.refusal, "stop"
        case Blocked(form="content_filter"):
            return text, "content_filter"
        case Blocked() | Failed():
            return text, ended.error
    raise AssertionError(ended)


async def test_the_same_text_and_the_same_verdict(start_stack: StartStack) -> None:
    served: dict[str, Any] = {}
    judge = {"judge": Script(judge=Judge("MARK is here"))}
    types = [{"type": "main", "engine": "openai", "model": "testing"}]
    types.append({"type": "self_check_output", "engine": "openai", "model": "judge"})
    stack = await start_stack(configs={id: given | {"models": types} for id, given in CONFIGS.items()}, models=judge)
    for id, given in CONFIGS.items():
        config = RailsConfig.from_content(config={"models": models(stack.upstream.url)} | given)
        async with LLMRails(config) as rails:
            for text in TEXTS:
                stack.upstream.script = Script(text=text, piece=3)
                async with stack.ask("Say it.", guardrails={"config_id": id}) as stream:
                    over_http = verdict(await stream.read())
                *texts, ended = [piece async for piece in rails.stream_events_async("Say it.")]
                assert over_http == expected("".join(map(str, texts)), ended), (id, text)
                body = {"model": "testing", "messages": [{"role": "user", "content": "Say it."}], "config_id": id}
                _, completion = await fetch(f"{stack.url}/v1/chat/completions", body=body)
                content = completion["choices"][0]["message"]["content"]
                served[id, text] = content
                assert content == await rails.generate_async("Say it."), (id, text)
    assert len(set(served.values())) > 4, "the table holds different verdicts"
