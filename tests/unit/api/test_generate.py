"""`generate_async`, `generate` and `check`: the whole answer, what is told with it, and what it never holds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from railstream import CallError, GenerationResponse, LLMRails, RailsConfig, ScriptedModel, StreamingHandler
from railstream.errors import ConfigurationError, InvalidRequestError
from railstream.testing import Judge, Script, ToolCall, Upstream

REFUSAL = "I'm sorry, I can't respond to that."


async def test_messages_give_a_message_and_a_prompt_a_text(build_rails: Any, ask: Any) -> None:
    rails = build_rails(deltas=[" Hello", " world "])
    assert await rails.generate_async(messages=ask) == {"role": "assistant", "content": " Hello world "}
    assert await rails.generate_async(prompt="Say something.") == " Hello world "


async def test_options_give_a_response_even_when_empty(build_rails: Any, ask: Any) -> None:
    rails = build_rails(deltas=["Hello"])
    response = await rails.generate_async(messages=ask, options={})
    assert isinstance(response, GenerationResponse)
    assert response.response == [{"role": "assistant", "content": "Hello"}]
    assert response.log is None
    response = await rails.generate_async(prompt="Hi", options={})
    assert response.response == "Hello"
    assert (await rails.generate_async(prompt="Hi", state={})).state == {}


async def test_llm_params_reach_the_provider(build_rails: Any, ask: Any, upstream: Upstream) -> None:
    rails = build_rails(Script(words=9))
    options = {"llm_params": {"max_tokens": 3, "temperature": 0.5}}
    response = await rails.generate_async(messages=ask, options=options)
    assert len(response.response[0]["content"].split()) == 3
    body = upstream.ledger[0].body
    assert body is not None
    assert (body["max_tokens"], body["temperature"]) == (3, 0.5)


async def test_the_log_tells_every_call_and_rail(build_rails: Any, ask: Any, judged: Any, upstream: Upstream) -> None:
    upstream.models["judge"] = Script(judge=Judge(marker="forbidden"), prompt_tokens=7, completion_tokens=1)
    rails = build_rails(deltas=["Hello", " world"], judges={"self_check_output": "judge"}, **judged)
    options = {"log": {"llm_calls": True, "activated_rails": True}}
    response = await rails.generate_async(messages=ask, options=options)
    general, judge = sorted(response.log.llm_calls, key=lambda call: call.task)
    assert (general.task, general.prompt_tokens, general.completion_tokens, general.total_tokens) == (
        "general",
        2,
        2,
        4,
    )
    assert (general.prompt, general.completion) == ("Say something.", "Hello world")
    assert (general.llm_model_name, general.llm_provider_name) == ("testing", "openai")
    assert (judge.task, judge.total_tokens, judge.completion) == ("self_check_output", 8, "No")
    assert judge.prompt == "Is this bad? Hello world"
    assert general.duration == pytest.approx(general.finished_at - general.started_at, abs=1e-4)
    assert {entry.id for entry in upstream.ledger} == {general.request_id, judge.request_id}
    (rail,) = response.log.activated_rails
    assert (rail.type, rail.name, rail.stop) == ("output", "self check output", False)
    stats = response.log.stats
    assert (stats.llm_calls_count, stats.llm_calls_total_tokens) == (2, 12)
    assert stats.total_duration >= stats.generation_rails_duration > 0
    assert stats.input_rails_duration is None


async def test_the_log_prints_a_summary(build_rails: Any, ask: Any, terms: Any, capsys: Any) -> None:
    rails = build_rails(deltas=["Hello"], rails=terms)
    response = await rails.generate_async(messages=ask, options={"log": {"activated_rails": True}})
    assert response.log.llm_calls is None
    response.log.print_summary()
    said = capsys.readouterr().out
    assert "# General stats" in said
    assert "- 1 LLM calls, " in said
    assert "OUTPUT (terms check output): execute terms_check_output" in said


async def test_reasoning_stands_before_the_text_or_beside_it(build_rails: Any, ask: Any) -> None:
    rails = build_rails(Script(text="Hello", reasoning=2))
    message = await rails.generate_async(messages=ask)
    assert message["content"].startswith("<think>")
    assert message["content"].endswith("</think>\nHello")
    response = await rails.generate_async(messages=ask, options={})
    assert response.response[0]["content"] == "Hello"
    assert response.reasoning_content in message["content"]


async def test_tool_calls_are_put_together(build_rails: Any, ask: Any) -> None:
    rails = build_rails(Script(tool_calls=(ToolCall("weather", {"city": "Basel"}), ToolCall("time", "{}"))))
    message = await rails.generate_async(messages=ask)
    first, second = message["tool_calls"]
    assert first["function"] == {"name": "weather", "arguments": '{"city":"Basel"}'}
    assert second["function"] == {"name": "time", "arguments": "{}"}
    assert first["id"] != second["id"]


async def test_a_blocked_answer_is_the_refusal_and_nothing_of_the_text(build_rails: Any, ask: Any, terms: Any) -> None:
    rails = build_rails(deltas=["It is ", "forbidden"], rails=terms)
    assert await rails.generate_async(messages=ask) == {"role": "assistant", "content": REFUSAL}
    assert await rails.generate_async(prompt="forbidden") == REFUSAL
    response = await rails.generate_async(messages=ask, options={"log": {"activated_rails": True}})
    assert [rail.stop for rail in response.log.activated_rails if rail.type == "output"] == [True]


async def test_exceptions_mode_gives_the_role_exception(build_rails: Any, ask: Any, terms: Any) -> None:
    rails = build_rails(deltas=["forbidden"], rails=terms, enable_rails_exceptions=True)
    message = await rails.generate_async(messages=ask)
    assert message["role"] == "exception"
    assert message["content"]["param"] == "terms check output"


async def test_a_request_may_switch_rails_off_where_the_config_allows_it(
    build_rails: Any, ask: Any, terms: Any
) -> None:
    options = {"rails": {"output": False}}
    rails = build_rails(deltas=["forbidden"], rails=terms)
    assert (await rails.generate_async(messages=ask, options=options)).response[0]["content"] == "forbidden"
    strict = build_rails(deltas=["forbidden"], rails=terms, railstream={"allow_request_rails": False})
    assert (await strict.generate_async(messages=ask, options=options)).response[0]["content"] == REFUSAL


async def test_a_provider_that_fails_raises(build_rails: Any, ask: Any) -> None:
    rails = build_rails(Script(fault="error_before", status=429, retry_after=7))
    with pytest.raises(CallError) as raised:
        await rails.generate_async(messages=ask)
    assert (raised.value.code, raised.value.retry_after) == ("rate_limited", 7)


async def test_output_rails_that_do_not_stream_still_check(build_rails: Any, ask: Any, terms: Any) -> None:
    rails = build_rails(deltas=["It is ", "forbidden"], rails=terms | {"output": {"flows": ["terms check output"]}})
    assert (await rails.generate_async(messages=ask))["content"] == REFUSAL


def test_without_an_event_loop_generate_runs_one_each_time(upstream_url: str, ask: Any, capsys: Any) -> None:
    model = {"type": "main", "engine": "openai", "model": "testing"}
    parameters = {"base_url": upstream_url, "api_key": "testing"}
    rails = LLMRails(RailsConfig.from_content(config={"models": [model | {"parameters": parameters}]}))
    for _ in range(3):
        assert rails.generate(messages=ask)["content"] == "Hello world"  # type: ignore[index, call-overload]
    response = rails.generate(prompt="Hi", options={"log": {"llm_calls": True}})
    assert response.log.llm_calls[0].total_tokens == 3  # type: ignore[union-attr, index]
    rails.explain().print_llm_calls_summary()
    assert "1. Task `general` took " in capsys.readouterr().out

    async def in_another_loop() -> Any:
        async with rails:
            return await rails.generate_async(prompt="Hi")

    assert asyncio.run(in_another_loop()) == "Hello world"


async def test_where_an_event_loop_runs_the_sync_calls_say_so(build_rails: Any, ask: Any) -> None:
    rails = build_rails()
    with pytest.raises(RuntimeError, match="await generate_async"):
        rails.generate(messages=ask)
    with pytest.raises(RuntimeError, match="await check_async"):
        rails.check(ask)


async def with_handler(rails: LLMRails, ask: Any, handler: StreamingHandler) -> tuple[Any, list[Any]]:
    async def read() -> list[Any]:
        return [chunk async for chunk in handler]

    reading = asyncio.create_task(read())
    with pytest.warns(DeprecationWarning, match="use stream_async"):
        result = await rails.generate_async(messages=ask, streaming_handler=handler)
    return result, await reading


async def test_a_handler_gets_the_deltas_and_the_caller_the_answer(build_rails: Any, ask: Any) -> None:
    rails = build_rails(deltas=["Hello", " ", "world"])
    result, chunks = await with_handler(rails, ask, StreamingHandler())
    assert chunks == ["Hello", " ", "world"]
    assert result == {"role": "assistant", "content": "Hello world"}


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_handler_never_gets_unchecked_text(build_rails: Any, ask: Any, terms: Any, streaming: bool) -> None:
    output = {"flows": ["terms check output"], "streaming": {"enabled": streaming}}
    rails = build_rails(deltas=["It is ", "for", "bidden", " fruit"], rails=terms | {"output": output})
    handler = StreamingHandler()
    result, chunks = await with_handler(rails, ask, handler)
    assert result["content"] == REFUSAL
    assert "forbidden" not in handler.completion
    assert chunks[-1] == REFUSAL


async def test_a_handler_gets_the_metadata(build_rails: Any, ask: Any) -> None:
    _, chunks = await with_handler(build_rails(deltas=["Hello"]), ask, StreamingHandler(include_metadata=True))
    assert chunks[0] == {"text": "Hello"}
    assert chunks[-1]["metadata"]["usage_metadata"]["total_tokens"] == 3


async def test_a_handler_ends_when_the_model_fails(build_rails: Any, ask: Any) -> None:
    handler = StreamingHandler()
    with pytest.warns(DeprecationWarning, match="stream_async"), pytest.raises(CallError):
        await build_rails(Script(fault="error_before")).generate_async(messages=ask, streaming_handler=handler)
    assert await handler.wait() == ""


async def test_nothing_of_a_handler_reaches_the_next_call(build_rails: Any, ask: Any, upstream: Upstream) -> None:
    first, handler = build_rails(deltas=["first"]), StreamingHandler()
    await with_handler(first, ask, handler)
    upstream.script = Script(deltas=("second",))
    assert (await first.generate_async(messages=ask))["content"] == "second"
    assert (await build_rails(deltas=["third"]).generate_async(messages=ask))["content"] == "third"
    assert handler.completion == "first"


async def test_a_model_of_the_callers_own_answers() -> None:
    model = ScriptedModel("mine", answers=["You said {prompt}"], words_per_second=0)
    rails = LLMRails(RailsConfig.from_content(config={}), llm=model)
    assert await rails.generate_async(prompt="Hi") == "You said Hi"
    assert rails.explain().llm_calls[0].llm_model_name == "mine"


@pytest.mark.parametrize("llm", ["gpt-4o", object()])
def test_what_is_no_model_is_refused(llm: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"must be a ChatModel.*it has no name, provider, stream"):
        LLMRails(RailsConfig.from_content(config={}), llm=llm)


async def test_without_a_model_the_answer_names_what_is_missing() -> None:
    with pytest.raises(ConfigurationError, match="names no model of the type main"):
        await LLMRails(RailsConfig.from_content(config={})).generate_async(prompt="Hi")


async def test_an_unknown_action_is_an_error_until_it_is_registered(build_rails: Any, ask: Any) -> None:
    rails = build_rails(deltas=["Hello"], rails={"output": {"flows": ["check prices"]}})
    with pytest.raises(ConfigurationError, match="check_prices"):
        await rails.generate_async(messages=ask)
    rails.register_action(lambda text: "Hello" not in text, "check_prices")
    assert (await rails.generate_async(messages=ask))["content"] == REFUSAL


async def test_checks_pass_mask_and_block_without_generating(build_rails: Any, terms: Any, upstream: Upstream) -> None:
    pii = {"input": {"entities": ["email"]}, "output": {"entities": ["email"]}}
    rails = build_rails(
        rails={
            "config": terms["config"] | {"pii_patterns": pii},
            "input": {"flows": ["terms check input", "mask pii on input"]},
            "output": {"flows": ["terms check output", "mask pii on output"]},
        }
    )

    async def check(*contents: str, **given: Any) -> tuple[str, str, str | None]:
        roles = ["user", "assistant"] if len(contents) == 2 else ["user"]
        messages = [{"role": role, "content": said} for role, said in zip(roles, contents, strict=True)]
        result = await rails.check_async(messages, **given)
        return result.status.value, result.content, result.rail

    assert await check("Hello") == ("passed", "Hello", None)
    status, content, rail = await check("I am joe@example.com.")
    assert (status, rail) == ("modified", None)
    assert "joe@example.com" not in content
    assert await check("forbidden") == ("blocked", REFUSAL, "terms check input")
    assert await check("Hello", "Hi") == ("passed", "Hi", None)
    assert await check("Hello", "forbidden") == ("blocked", REFUSAL, "terms check output")
    assert await check("forbidden", "Hi") == ("blocked", REFUSAL, "terms check input")
    assert await check("forbidden", "Hi", rail_types=["output"]) == ("passed", "Hi", None)
    assert len(upstream.ledger) == 0
    with pytest.raises(InvalidRequestError, match="'retrieval' is not a valid"):
        await check("Hello", rail_types=["retrieval"])


def test_check_without_an_event_loop() -> None:
    rails = LLMRails(RailsConfig.from_content(config={}))
    assert rails.check([{"role": "user", "content": "Hello"}]).status == "passed"
