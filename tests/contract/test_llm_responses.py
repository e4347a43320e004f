"""The Responses wire: one run for each call, read over as many connections as it takes, cancelled when it is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from contract.llm_rig import asked, listen, model_on
from railstream.testing import Script, Upstream
from railstream_engine.providers.port import Call, ChatModel

WIRE = {"wire": "responses"}


@pytest.fixture
async def model(upstream: Upstream) -> AsyncGenerator[ChatModel, None]:
    made = model_on(upstream, "openai", chunk_timeout=2, first_token_timeout=2, **WIRE)
    yield made
    await made.aclose()


def says(**script: Any) -> str:
    return "".join(Script(**script).says())


async def test_a_run_is_told_as_deltas_a_finish_and_its_usage(model: ChatModel, upstream: Upstream) -> None:
    heard = await listen(model, asked(words=12, seed=3, reasoning=4, cached_tokens=1))
    assert heard.error is None
    assert (heard.text, len(heard.reasoning.split())) == (says(words=12, seed=3), 4)
    assert all(delta.exact for delta in heard.deltas)
    assert [(finish.reason, finish.raw_reason) for finish in heard.finishes] == [("stop", "completed")]
    (entry,) = upstream.ledger
    assert (heard.tokens[-1].input_tokens, heard.tokens[-1].output_tokens) == (entry.prompt_tokens, entry.tokens)
    assert (heard.tokens[-1].reasoning_tokens, heard.tokens[-1].cached_input_tokens) == (4, 1)
    assert heard.tokens[-1].raw["completion_tokens_details"] == {"reasoning_tokens": 4}
    assert heard.infos[0].id.startswith("resp_")
    assert entry.body is not None
    assert (entry.body["background"], entry.body["stream"], entry.body["store"]) == (True, True, True)


async def test_tool_calls_come_in_fragments_and_end_the_answer_as_such(model: ChatModel) -> None:
    calls = [{"name": "look", "arguments": {"for": "a train"}, "id": "call_a"}, {"name": "wait", "arguments": {}}]
    heard = await listen(model, asked(tool_calls=calls))
    assert [finish.reason for finish in heard.finishes] == ["tool_calls"]
    assert heard.tools[0] == {"id": "call_a", "name": "look", "arguments": '{"for":"a train"}'}
    assert (heard.tools[1]["name"], heard.tools[1]["arguments"]) == ("wait", "{}")


async def test_a_cut_a_filter_and_a_failure_end_as_what_they_are(model: ChatModel) -> None:
    cut = await listen(model, asked(words=30, params={"max_tokens": 5}))
    assert [finish.reason for finish in cut.finishes] == ["length"]
    filtered = await listen(model, asked(words=3, finish_reason="content_filter"))
    assert [finish.reason for finish in filtered.finishes] == ["content_filter"]
    failed = await listen(model, asked(words=9, seed=3, fault="error_during", at=4))
    assert (failed.failed.code, failed.failed.provider_code) == ("provider", "server_error")
    assert failed.failed.partial == says(words=4, seed=3)
    assert failed.tokens[-1].output_tokens == 4


@pytest.mark.parametrize(
    ("fault", "at"),
    [*((fault, at) for fault in ("reset", "early_end") for at in (0, 1, 7, 20)), ("hang", 1), ("hang", 20)],
)
async def test_a_broken_connection_is_replaced_and_the_run_is_read_to_its_end(
    model: ChatModel, upstream: Upstream, fault: str, at: int
) -> None:
    heard = await listen(model, asked(words=20, seed=3, rate=400, reasoning=2, fault=fault, at=at))
    assert heard.error is None
    assert heard.text == says(words=20, seed=3)
    (entry,) = upstream.ledger
    assert (entry.outcome, entry.tokens, entry.attached) == ("finished", 22, 1)
    assert heard.tokens[-1].output_tokens == 22


async def test_tool_calls_go_on_in_the_middle_of_their_arguments(model: ChatModel, upstream: Upstream) -> None:
    calls = [{"name": "look", "arguments": {"for": "a train to somewhere else"}, "id": "call_a"}]
    heard = await listen(model, asked(tool_calls=calls, fault="reset", at=3))
    assert heard.tools[0] == {"id": "call_a", "name": "look", "arguments": '{"for":"a train to somewhere else"}'}
    assert upstream.ledger[0].attached == 1


async def test_a_run_that_says_nothing_is_late_by_the_calls_own_deadline_and_is_cancelled(
    model: ChatModel, upstream: Upstream
) -> None:
    heard = await listen(model, asked(words=9, seed=3, hold=4))
    assert (heard.failed.code, heard.failed.param) == ("timeout", "chunk_timeout")
    assert heard.failed.partial == says(words=4, seed=3)
    (entry,) = await upstream.ledger.wait(ended=1)
    assert entry.outcome == "cancelled"
    late = await listen(model, asked(words=9, delay_first=60))
    assert (late.failed.code, late.failed.param) == ("timeout", "first_token_timeout")
    await upstream.ledger.wait(ended=2)


async def test_a_run_that_can_no_longer_be_read_again_fails_with_the_break(
    model: ChatModel, upstream: Upstream
) -> None:
    heard = await listen(model, asked(words=90, seed=3, rate=50, fault="reset", at=4, attach_for=0))
    assert heard.failed.partial == says(words=4, seed=3)
    assert heard.failed.code == "connection"
    (entry,) = await upstream.ledger.wait(ended=1)
    assert entry.outcome == "cancelled"


async def test_a_call_that_is_left_cancels_its_run(model: ChatModel, upstream: Upstream) -> None:
    heard = await listen(model, asked(words=500, rate=50), stop_after=3)
    assert heard.error is None
    (entry,) = await upstream.ledger.wait(ended=1)
    assert entry.outcome == "cancelled"


@pytest.mark.parametrize("script", [{"fault": "slow_headers", "seconds": 0.3}, {"delay_first": 60}])
async def test_a_call_that_is_left_before_its_first_token_cancels_its_run(
    model: ChatModel, upstream: Upstream, script: dict[str, Any]
) -> None:
    task = asyncio.create_task(listen(model, asked(words=500, rate=50, **script)))
    await upstream.ledger.wait(calls=1)
    task.cancel()
    await asyncio.wait((task,))
    (entry,) = await upstream.ledger.wait(ended=1)
    assert entry.outcome == "cancelled"
    heard = await listen(model, asked(words=30, seed=9))
    assert heard.text == says(words=30, seed=9)


async def test_a_refusal_before_the_run_is_typed_and_retried_like_any_other(upstream: Upstream) -> None:
    model = model_on(upstream, "openai", max_retries=2, **WIRE)
    heard = await listen(model, asked(words=3, fault="error_before", status=503, retry_after=0.01, times=2))
    assert heard.error is None
    refused = await listen(model, asked(words=3, fault="error_before", status=429))
    assert refused.failed.code == "rate_limited"
    await model.aclose()


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"stop": ["."]}, "stop"),
        ({"seed": 4}, "seed"),
        ({"n": 2}, "n"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"store": False}, "store"),
        ({"something": 1}, "something"),
        ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools"),
    ],
)
async def test_an_option_that_the_api_does_not_have_is_refused_by_name(
    model: ChatModel, upstream: Upstream, params: dict[str, Any], name: str
) -> None:
    heard = await listen(model, asked(params=params))
    assert (heard.failed.code, heard.failed.param) == ("invalid_request", name)
    assert len(upstream.ledger) == 0


async def test_a_judges_call_lives_without_what_is_refused(model: ChatModel, upstream: Upstream) -> None:
    call = Call("m-1", asked(words=2).messages, {"stop": ["."], "n": 1}, task="self_check_output")
    assert (await listen(model, call)).error is None


async def test_calls_at_once_do_not_hear_each_other(model: ChatModel, upstream: Upstream) -> None:
    given = [{"words": 30, "seed": number, "rate": 300, "fault": "reset", "at": number} for number in range(1, 12)]
    calls = [asked(id=f"chatcmpl-{script['seed']}.1.1", **script) for script in given]
    heard = await asyncio.gather(*(listen(model, call) for call in calls))
    assert [one.text for one in heard] == [says(words=30, seed=script["seed"]) for script in given]
    assert [entry.tokens for entry in upstream.ledger] == [30] * 11
