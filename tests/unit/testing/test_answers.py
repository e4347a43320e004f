"""What the upstream answers, as the `openai` SDK reads it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from openai import AsyncOpenAI, AuthenticationError, BadRequestError
from railstream.testing import Judge, Script, Upstream, text

from .conftest import asking


def said(chunks: list[Any], choice: int = 0, field: str = "content") -> str:
    deltas = [c.delta for chunk in chunks for c in chunk.choices if c.index == choice]
    return "".join(getattr(delta, field, None) or "" for delta in deltas)


async def test_a_stream_says_the_words_of_its_seed_and_why_it_ended(chunks_of: Callable[..., Any]) -> None:
    chunks = await chunks_of(words=30, seed=7)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert said(chunks) == text.text(7, 30)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]


async def test_a_whole_answer_says_the_same_as_a_stream(sdk: AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="any", messages=asking(words=30, seed=7))
    assert answer.choices[0].message.content == text.text(7, 30)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 30


async def test_usage_comes_last_and_only_when_it_is_asked_for(chunks_of: Callable[..., Any]) -> None:
    chunks = await chunks_of({"stream_options": {"include_usage": True}}, words=4, prompt_tokens=9, cached_tokens=2)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.prompt_tokens == 9
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 2
    assert chunks[-1].usage.completion_tokens == 4
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert all(chunk.usage is None for chunk in await chunks_of(words=4))
    assert (await chunks_of({"stream_options": {"include_usage": True}}, usage="never"))[-1].usage is None


async def test_continuous_usage_grows_with_every_chunk(chunks_of: Callable[..., Any]) -> None:
    counts = [chunk.usage.completion_tokens for chunk in await chunks_of(words=3, usage="continuous") if chunk.usage]
    assert counts == [1, 2, 3, 3, 3]


async def test_tool_calls_come_in_fragments_that_make_the_arguments(chunks_of: Callable[..., Any]) -> None:
    calls = [{"name": "weather", "arguments": {"city": "Zürich", "days": 3}}, {"name": "time"}]
    chunks = await chunks_of(tool_calls=calls)
    fragments = [f for chunk in chunks for f in chunk.choices[0].delta.tool_calls or []]
    first = [f for f in fragments if f.index == 0]
    assert first[0].id
    assert first[0].function.name == "weather"
    assert len(first) > 3
    assert json.loads("".join(f.function.arguments for f in first)) == {"city": "Zürich", "days": 3}
    assert [f.function.name for f in fragments if f.index == 1] == ["time"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_a_whole_answer_has_whole_tool_calls(sdk: AsyncOpenAI) -> None:
    messages = asking(words=2, tool_calls=[{"name": "weather", "arguments": {"city": "Bern"}}])
    answer: Any = await sdk.chat.completions.create(model="any", messages=messages)
    assert answer.choices[0].message.content == text.text(0, 2)
    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"city":"Bern"}'


async def test_choices_say_different_things_side_by_side(chunks_of: Callable[..., Any]) -> None:
    chunks = await chunks_of({"n": 2}, words=5)
    assert said(chunks, 0) == text.text(0, 5)
    assert said(chunks, 1) == text.text("0/1", 5)
    assert [chunk.choices[0].index for chunk in chunks] == [0, 1] * 7


async def test_reasoning_comes_before_the_answer(chunks_of: Callable[..., Any]) -> None:
    chunks = await chunks_of({"stream_options": {"include_usage": True}}, words=2, reasoning=3)
    assert said(chunks, field="reasoning_content") == text.text("0/reasoning", 3)
    assert said(chunks) == text.text(0, 2)
    assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == 3


async def test_logprobs_stand_beside_each_token(chunks_of: Callable[..., Any]) -> None:
    chunks = await chunks_of({"logprobs": True}, words=3)
    tokens = [t.token for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert tuple(tokens) == text.words(0, 3)


async def test_deltas_that_are_listed_are_sent_as_they_stand(chunks_of: Callable[..., Any]) -> None:
    chunks = await chunks_of(deltas=["a", {"refusal": "no"}, {"content": "b", "x": 1}])
    assert said(chunks) == "ab"
    assert said(chunks, field="refusal") == "no"
    assert chunks[3].choices[0].delta.x == 1


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_of_tokens_cuts_the_answer(chunks_of: Callable[..., Any], limit: str) -> None:
    chunks = await chunks_of({limit: 3}, words=9)
    assert said(chunks) == text.text(0, 3)
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("kept", [1, 17, 40, None])
async def test_an_answer_that_was_begun_is_continued_exactly(chunks_of: Callable[..., Any], kept: int | None) -> None:
    whole = text.text(3, 12)
    messages = [*asking(words=12, seed=3, continues=True), {"role": "assistant", "content": whole[:kept]}]
    assert whole[:kept] + said(await chunks_of({"messages": messages})) == whole


async def test_an_answer_that_was_begun_is_answered_anew_by_default(chunks_of: Callable[..., Any]) -> None:
    messages = [*asking(words=12, seed=3), {"role": "assistant", "content": text.text(3, 5)}]
    assert said(await chunks_of({"messages": messages})) == text.text(3, 12)


async def test_what_was_never_said_is_answered_from_the_start(chunks_of: Callable[..., Any]) -> None:
    messages = [*asking(words=5), {"role": "assistant", "content": "Something else"}]
    assert said(await chunks_of({"messages": messages})) == text.text(0, 5)


async def test_a_stamped_answer_is_continued_and_tells_its_send_times(chunks_of: Callable[..., Any]) -> None:
    before = time.monotonic_ns()
    stamped = said(await chunks_of(words=6, stamp=True))
    times = list(text.stamps(stamped))
    assert len(times) == 6
    assert before < times[0] <= times[-1] < time.monotonic_ns()
    begun = stamped[: len(stamped) // 2]
    question = asking(words=6, stamp=True, continues=True)
    rest = said(await chunks_of({"messages": [*question, {"role": "assistant", "content": begun}]}))
    assert text.unstamped(begun + rest) == text.text(0, 6)


async def test_a_script_comes_from_the_header_before_the_directive_before_the_seed(
    chunks_of: Callable[..., Any], upstream: Upstream
) -> None:
    upstream.script = Script(words=2)
    assert said(await chunks_of({"seed": 5})) == text.text(5, 2)
    assert said(await chunks_of({"seed": 5}, seed=6)) == text.text(6, 2)
    header = {"X-Upstream-Script": '{"words": 4}'}
    assert said(await chunks_of({"extra_headers": header, "seed": 5}, words=3, seed=6)) == text.text(6, 4)


async def test_a_judge_looks_for_its_marker_and_reads_no_asking(upstream: Upstream, sdk: AsyncOpenAI) -> None:
    upstream.models["judge"] = Script(judge=Judge("FORBIDDEN", hit="yes", miss="no"))
    for content, verdict in (("all well", "no"), ("this is FORBIDDEN", "yes"), ('@upstream {"words": 9}', "no")):
        messages: Any = [{"role": "user", "content": content}]
        answer = await sdk.chat.completions.create(model="judge", messages=messages)
        assert answer.choices[0].message.content == verdict


@pytest.mark.parametrize("wrong", ['{"wrods": 1}', '{"words": "many"}', "not json", "[1]"])
async def test_a_directive_that_is_wrong_is_refused(sdk: AsyncOpenAI, wrong: str) -> None:
    with pytest.raises(BadRequestError):
        await sdk.chat.completions.create(model="any", messages=[{"role": "user", "content": f"@upstream {wrong}"}])


async def test_another_key_than_its_own_is_refused() -> None:
    async with Upstream(api_key="right") as upstream, AsyncOpenAI(base_url=upstream.url, api_key="wrong") as sdk:
        with pytest.raises(AuthenticationError):
            await sdk.chat.completions.create(model="any", messages=asking())


async def test_models_are_listed(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.models["judge"] = Script()
    assert [model.id async for model in await sdk.models.list()] == ["testing", "judge"]


async def test_the_rate_paces_the_deltas(chunks_of: Callable[..., Any]) -> None:
    started = time.monotonic()
    times = list(text.stamps(said(await chunks_of(words=11, rate=100, delay_first=0.05, stamp=True))))
    assert time.monotonic() - started >= 0.15
    assert 0.09 <= (times[-1] - times[0]) / 1e9 < 1
