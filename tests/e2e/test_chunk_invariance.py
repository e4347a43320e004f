"""An outside judge: what a client receives does not depend on how the provider cut the text into deltas.

The package ``chunk-invariance`` makes the splits and compares. Each split is one streamed request over HTTP; the text
that it must equal is the answer to the whole text in one delta, asked for without streaming.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from chunk_invariance import assert_chunk_invariant_async
from harness.sse import fetch
from harness.stack import MODEL, Stack
from railstream.testing import Judge, Script

StartStack = Callable[..., Awaitable[Stack]]
MAIN = {"type": "main", "engine": "openai", "model": MODEL}
PASSED, BLOCKED = "passed", "blocked"


def config(*flows: str, sections: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    output = {"flows": list(flows), "streaming": {"enabled": True, "chunk_size": 4, "context_size": 8}}
    return {"models": [MAIN], "rails": {"output": output, "config": sections or {}}} | more


def judged(flow: str, task: str, model: str, prompt: str) -> dict[str, Any]:
    return config(
        flow,
        models=[MAIN, {"type": model, "engine": "openai", "model": "judge"}],
        prompts=[{"task": task, "content": prompt}],
    )


LOCAL: dict[str, tuple[dict[str, Any], str]] = {
    "regex": (
        config("regex check output", sections={"regex_detection": {"output": {"patterns": [r"key-[0-9]{4,8}\b"]}}}),
        "The key-12 is short, key-123456 is not.",
    ),
    "terms": (
        config("terms check output", sections={"terms": {"output": {"terms": ["purple dragon"]}}}),
        "A purple drag, then a Purple dragon, ah.",
    ),
    "masked terms": (
        config("mask terms on output", sections={"terms": {"output": {"terms": ["dragon", "purple"]}}}),
        "Pur purple dragons and one dragon. Purple",
    ),
    "pii": (config("detect pii on output"), "Write to a.b@example or to a.b@example.org."),
    "masked pii": (config("mask pii on output"), "Card 4111 1111 1111 1111, or 078-05-1120."),
    "secrets": (config("detect secrets on output"), "It is sk-a, no, sk-proj-abcdefghijklmnop12345678."),
    "masked secrets": (config("mask secrets on output"), "So sk-proj-abcdefghijklmnop12345678 it is."),
    "two masks": (
        config("mask pii on output", "mask terms on output", sections={"terms": {"output": {"terms": ["email"]}}}),
        "My email: a.b@example.org, an email.",
    ),
}
JUDGED: dict[str, tuple[dict[str, Any], str, str]] = {
    "self check": (
        judged("self check output", "self_check_output", "self_check_output", "Block MARK? {{ bot_response }}"),
        "Nothing here but a MRAK.",
        "Here comes the MARK now.",
    ),
    "injection": (
        config(
            "injection detection",
            sections={"injection_detection": {"injections": ["sqli"], "action": "reject"}},
        ),
        "One may SELECT what one likes.",
        "Send '; DROP TABLE users; -- now.",
    ),
    "action": (
        config("no shouting")
        | {
            "actions.py": "from railstream import action\n\n\n"
            "@action()\ndef no_shouting(text: str):\n    return 'LOUD' not in text\n"
        },
        "Not lou and not Loud.",
        "It is very LOUD in here.",
    ),
}


async def received(stack: Stack, name: str, chunks: AsyncIterable[str]) -> tuple[str, str]:
    """What a streaming client has received of these deltas, and whether the answer was blocked."""
    stack.upstream.script = Script(deltas=tuple([chunk async for chunk in chunks]))
    async with stack.ask(guardrails={"config_id": name}) as stream:
        assert stream.status == 200, await stream.body()
        frames = await stream.read()
    errors = [frame.json["error"] for frame in frames if not frame.done and "error" in frame.json]
    assert all(error["code"] == "content_blocked" for error in errors), errors
    return "".join(frame.text for frame in frames), BLOCKED if errors else PASSED


async def whole(text: str) -> AsyncIterator[str]:
    yield text


async def answer(stack: Stack, name: str, text: str) -> str:
    """The whole answer without streaming: the text, or the refusal where it was blocked."""
    stack.upstream.script = Script(deltas=(text,))
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Say it."}], "guardrails": {"config_id": name}}
    status, found = await fetch(f"{stack.url}/v1/chat/completions", body=body)
    assert status == 200, found
    return str(found["choices"][0]["message"]["content"])


async def test_local_rails_release_the_same_text_however_it_was_cut(start_stack: StartStack) -> None:
    ids = {name: name.replace(" ", "-") for name in LOCAL}
    stack = await start_stack(configs={ids[name]: config for name, (config, _) in LOCAL.items()})
    for name, (_, text) in LOCAL.items():
        released, verdict = await received(stack, ids[name], whole(text))
        if verdict == PASSED:
            assert await answer(stack, ids[name], text) == released
            assert released != text, "this text shows nothing: the rail changes nothing of it"

        async def stream(
            chunks: AsyncIterable[str], name: str = ids[name], verdict: str = verdict
        ) -> AsyncIterator[str]:
            got, ended = await received(stack, name, chunks)
            assert ended == verdict
            yield got

        splits = await assert_chunk_invariant_async(stream, lambda _, released=released: released, text)
        assert splits == len(text)
        letters = [list(text), [text[at : at + 2] for at in range(0, len(text), 2)]]
        assert (
            await assert_chunk_invariant_async(stream, lambda _, released=released: released, text, splits=letters) == 2
        )


@pytest.mark.parametrize("name", list(JUDGED))
async def test_judging_rails_rule_the_same_however_the_text_was_cut(start_stack: StartStack, name: str) -> None:
    own, clean, wrong = JUDGED[name]
    stack = await start_stack(configs={"main": own}, models={"judge": Script(judge=Judge("MARK now"))})

    async def clean_stream(chunks: AsyncIterable[str]) -> AsyncIterator[str]:
        got, ended = await received(stack, "main", chunks)
        assert ended == PASSED
        yield got

    async def verdict(chunks: AsyncIterable[str]) -> AsyncIterator[str]:
        got, ended = await received(stack, "main", chunks)
        assert wrong.startswith(got)
        yield ended

    assert await assert_chunk_invariant_async(clean_stream, lambda text: text, clean) == len(clean)
    assert await assert_chunk_invariant_async(verdict, lambda _: BLOCKED, wrong) == len(wrong)
