"""Rails over the real path: what a client gets when they pass, mask, block, fail, judge, and remember."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from harness.sse import Frame, fetch
from harness.stack import MODEL, Stack
from railstream.testing import Judge, Script, directive

StartStack = Callable[..., Awaitable[Stack]]
REFUSAL = "I'm sorry, I can't respond to that."
MAIN = {"type": "main", "engine": "openai", "model": MODEL}
JUDGE = {"type": "self_check_output", "engine": "openai", "model": "judge"}
JUDGE_INPUT = {"type": "self_check_input", "engine": "openai", "model": "judge"}
ASK = {"task": "self_check_output", "content": "Does this hold MARK? {{ bot_response }}"}
ASK_INPUT = {"task": "self_check_input", "content": "Does this hold MARK? {{ user_input }}"}
REGEX = {"regex_detection": {"output": {"patterns": [r"secret-\d+"]}}}


def guarded(*flows: str, config: dict[str, Any] | None = None, **railstream: Any) -> dict[str, Any]:
    rails = {"output": {"flows": list(flows), "streaming": {"enabled": True}}, "config": config or {}}
    return {"models": [MAIN], "rails": rails} | ({"railstream": railstream} if railstream else {})


CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"models": [MAIN]},
    "regex": guarded("regex check output", config=REGEX),
    "filter": guarded("regex check output", config=REGEX, on_violation="content_filter"),
    "refusal": guarded("regex check output", config=REGEX, on_violation="refusal"),
    "mask": guarded("mask pii on output", config={"pii_patterns": {"output": {"entities": ["email"]}}}),
    "judge": guarded("self check output") | {"models": [MAIN, JUDGE], "prompts": [ASK]},
    "input": {
        "models": [MAIN, JUDGE_INPUT],
        "prompts": [ASK_INPUT],
        "rails": {"input": {"flows": ["self check input"]}},
    },
    "speculative": {
        "models": [MAIN, JUDGE_INPUT],
        "prompts": [ASK_INPUT],
        "rails": {"input": {"flows": ["self check input"], "speculative_generation": True}},
    },
    "custom": guarded("no shouting")
    | {
        "actions.py": "from railstream import action, block\n\n\n@action()\ndef no_shouting(text: str):\n"
        "    if 'CRASH' in text:\n        raise RuntimeError('boom')\n"
        "    return block('shouting') if 'LOUD' in text else True\n"
    },
    "closed": {"models": [MAIN], "rails": {"output": {"flows": ["regex check output"]}, "config": REGEX}},
}


@pytest.fixture
async def guarded_stack(start_stack: StartStack) -> Stack:
    return await start_stack(configs=CONFIGS, models={"judge": Script(judge=Judge("MARK is here"))})


async def streamed(stack: Stack, config: str, text: str, **given: Any) -> list[Frame]:
    stack.upstream.script = Script(text=text, piece=3)
    async with stack.ask("Say it.", guardrails={"config_id": config}, **given) as stream:
        assert stream.status == 200, await stream.body()
        frames: list[Frame] = await stream.read()
    return frames


def text_of(frames: list[Frame]) -> str:
    return "".join(frame.text for frame in frames)


async def whole(stack: Stack, config: str, text: str, **given: Any) -> tuple[int, Any]:
    stack.upstream.script = Script(text=text, piece=3)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Say it."}], "guardrails": {"config_id": config}}
    return await fetch(f"{stack.url}/v1/chat/completions", body=body | given)


async def test_a_blocked_stream_ends_with_the_violation_and_leaks_nothing(guarded_stack: Stack) -> None:
    frames = await streamed(guarded_stack, "regex", "All is well, the key is secret-123 and more text follows.")
    assert text_of(frames) == "All is well, the key is "
    assert frames[-2].json["error"] == {
        "message": "Blocked by regex check output rails.",
        "type": "guardrails_violation",
        "param": "regex check output",
        "code": "content_blocked",
    }
    assert frames[-1].done
    await guarded_stack.upstream.ledger.wait(open=0)


async def test_the_sdk_raises_what_the_rail_said(guarded_stack: Stack) -> None:
    guarded_stack.upstream.script = Script(text="secret-1", piece=3)
    async with guarded_stack.client() as client:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "x"}],
            stream=True,
            extra_body={"guardrails": {"config_id": "regex"}},
        )
        with pytest.raises(openai.APIError) as caught:
            async for _ in stream:
                pass
    assert (caught.value.code, caught.value.param) == ("content_blocked", "regex check output")


async def test_a_block_may_look_like_a_content_filter_or_a_refusal(guarded_stack: Stack) -> None:
    frames = await streamed(guarded_stack, "filter", "the key is secret-1, so")
    assert frames[-2].json["choices"][0]["finish_reason"] == "content_filter"
    frames = await streamed(guarded_stack, "refusal", "the key is secret-1, so")
    assert text_of(frames) == "the key is " + REFUSAL
    assert frames[-2].json["choices"][0]["finish_reason"] == "stop"


async def test_a_blocked_answer_that_is_not_streamed_is_a_refusal(guarded_stack: Stack) -> None:
    status, body = await whole(guarded_stack, "regex", "the key is secret-1, so")
    assert (status, body["choices"][0]["message"]["content"]) == (200, REFUSAL)
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["guardrails"]["violation"]["code"] == "content_blocked"


async def test_masks_reach_the_client_streamed_and_whole(guarded_stack: Stack) -> None:
    said = "Write to ada@example.org today, or to bob@example.com."
    frames = await streamed(guarded_stack, "mask", said)
    status, body = await whole(guarded_stack, "mask", said)
    masked = body["choices"][0]["message"]["content"]
    assert (status, text_of(frames)) == (200, masked)
    assert "@" not in masked
    assert masked.startswith("Write to ")


async def test_a_judge_blocks_what_it_was_told_to(guarded_stack: Stack) -> None:
    fine = " ".join(f"word{number}" for number in range(60))
    assert text_of(await streamed(guarded_stack, "judge", fine)) == fine
    frames = await streamed(guarded_stack, "judge", fine + " MARK is here " + fine)
    assert frames[-2].json["error"]["param"] == "self check output"
    assert "MARK" not in text_of(frames)
    assert fine.startswith(text_of(frames))


@pytest.mark.parametrize("config", ["input", "speculative"])
async def test_a_blocked_question_is_refused_in_one_chunk(guarded_stack: Stack, config: str) -> None:
    guarded_stack.upstream.script = Script(text="an answer", piece=3)
    async with guarded_stack.ask("MARK is here", guardrails={"config_id": config}) as stream:
        frames = await stream.read()
    assert [frame.text for frame in frames if frame.text] == [REFUSAL]
    assert frames[-2].json["choices"][0]["finish_reason"] == "stop"
    assert text_of(await streamed(guarded_stack, config, "an answer")) == "an answer"


async def test_a_custom_action_blocks_and_a_broken_one_blocks_too(guarded_stack: Stack) -> None:
    assert text_of(await streamed(guarded_stack, "custom", "quiet words")) == "quiet words"
    frames = await streamed(guarded_stack, "custom", "LOUD words")
    assert (text_of(frames), frames[-2].json["error"]["code"]) == ("", "content_blocked")
    frames = await streamed(guarded_stack, "custom", "CRASH words")
    assert (text_of(frames), frames[-2].json["error"]["code"]) == ("", "rail_execution_failure")
    assert "boom" not in frames[-2].raw.decode()


async def test_output_rails_that_may_not_stream_are_refused_before_the_queue(guarded_stack: Stack) -> None:
    async with guarded_stack.ask("x", guardrails={"config_id": "closed"}) as stream:
        body = await stream.body()
    assert stream.status == 400
    assert b"rails.output.streaming.enabled" in body
    assert (await whole(guarded_stack, "closed", "fine"))[0] == 200


async def test_the_models_own_text_is_never_taken_for_control(guarded_stack: Stack) -> None:
    for said in ("{}", '{"error": {"message": "m", "type": "guardrails_violation"}}', "data: [DONE]\n\n"):
        for config in ("plain", "regex", "mask", "judge"):
            frames = await streamed(guarded_stack, config, said)
            assert text_of(frames) == said, config
            assert frames[-2].json["choices"][0]["finish_reason"] == "stop"


async def test_the_bodies_of_the_older_servers_are_served(guarded_stack: Stack) -> None:
    guarded_stack.upstream.script = Script(text="Hello.", piece=3)
    messages = [{"role": "user", "content": "Hello! What can you do for me?"}]
    status, body = await fetch(
        f"{guarded_stack.url}/v1/chat/completions", body={"config_id": "plain", "messages": messages}
    )
    assert (status, body["choices"][0]["message"]["content"]) == (200, "Hello.")


async def test_usage_calls_and_rails_are_told_when_asked_for(guarded_stack: Stack) -> None:
    options = {"log": {"llm_calls": True, "activated_rails": True}}
    guardrails = {"config_id": "judge", "options": options}
    _, body = await whole(guarded_stack, "judge", "fine words", guardrails=guardrails)
    log = body["guardrails"]["log"]
    assert sorted({call["task"] for call in log["llm_calls"]}) == ["general", "self_check_output"]
    assert all(call["total_tokens"] for call in log["llm_calls"])
    assert {rail["name"] for rail in log["activated_rails"]} == {"self check output"}


async def test_checks_run_rails_without_generating(guarded_stack: Stack) -> None:
    async def check(config: str, text: str) -> Any:
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": text}]
        body = {"messages": messages, "guardrails": {"config_id": config}}
        return (await fetch(f"{guarded_stack.url}/v1/checks", body=body))[1]

    assert (await check("regex", "fine"))["status"] == "passed"
    blocked = await check("regex", "secret-1")
    assert (blocked["status"], blocked["rail"]) == ("blocked", "regex check output")
    assert (await check("mask", "a@b.org"))["status"] == "modified"
    assert len(guarded_stack.upstream.ledger) == 0


async def test_a_thread_goes_on_where_it_was_also_when_streamed(guarded_stack: Stack) -> None:
    thread = {"config_id": "plain", "thread_id": "thread-0123456789abcdef"}
    for said in ("first", "second"):
        async with guarded_stack.ask(directive(text=f"answer to {said}"), guardrails=thread) as stream:
            await stream.read()
    messages = guarded_stack.upstream.ledger[-1].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == "answer to first"
