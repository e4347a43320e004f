"""What is tried again, and by whom: the same model before its first content, then its stand-ins, never after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest
from contract.llm_rig import Heard, asked, listen, model_on
from railstream.config import RailsConfig
from railstream.errors import CallError
from railstream.events import Usage
from railstream.telemetry.process import of_program
from railstream.testing import Script, Upstream
from railstream_engine.generation.calls import Caller
from railstream_engine.models import Models
from railstream_engine.providers.http import exchange
from railstream_engine.providers.port import Call, ChatModel, Delta

Serve = Callable[..., ChatModel]


@pytest.fixture(params=["openai", "anthropic", "google_genai"])
async def serve(request: pytest.FixtureRequest, upstream: Upstream) -> AsyncGenerator[Serve, None]:
    if request.param == "anthropic":
        pytest.importorskip("anthropic", reason="the extra `anthropic` is not installed")
    async with AsyncExitStack() as stack:

        def start(**options: Any) -> ChatModel:
            model = model_on(upstream, request.param, **options)
            stack.push_async_callback(model.aclose)
            return model

        yield start


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "FIRST_PAUSE", 0.01)


def says(**script: Any) -> str:
    return "".join(Script(**script).says())


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "error_before", "status": 500},
        {"fault": "error_before", "status": 429},
        {"fault": "early_end", "at": 0},
        {"fault": "error_during", "at": 0, "status": 529},
        {"fault": "reset", "at": 0},
        {"fault": "reset", "at": -1},
    ],
    ids=str,
)
async def test_a_failure_before_the_first_content_is_tried_again(
    serve: Serve, upstream: Upstream, fault: dict[str, Any]
) -> None:
    heard = await listen(serve(max_retries=2), asked(words=5, times=2, **fault))
    assert (heard.text, heard.error) == (says(words=5), None)
    assert [entry.outcome for entry in upstream.ledger] == ["fault", "fault", "finished"]
    assert len(heard.infos) == 1


async def test_the_last_failure_is_raised_when_retries_are_used_up(serve: Serve, upstream: Upstream) -> None:
    heard = await listen(serve(max_retries=1), asked(fault="error_before", status=503))
    assert heard.failed.code == "overloaded"
    assert len(upstream.ledger) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_what_would_fail_again_is_not_tried_again(serve: Serve, upstream: Upstream, status: int) -> None:
    await listen(serve(max_retries=2), asked(fault="error_before", status=status))
    assert len(upstream.ledger) == 1


@pytest.mark.parametrize("fault", ["early_end", "reset", "error_during"])
async def test_nothing_is_tried_again_after_the_first_content(serve: Serve, upstream: Upstream, fault: str) -> None:
    heard = await listen(serve(max_retries=2), asked(words=9, fault=fault, at=3))
    assert heard.error is not None
    assert len(upstream.ledger) == 1


async def test_a_retry_waits_as_long_as_the_provider_asks(serve: Serve, upstream: Upstream) -> None:
    call = asked(words=2, fault="error_before", status=429, retry_after=0.4, times=1)
    heard = await listen(serve(max_retries=1), call)
    assert heard.text == says(words=2)
    refused, answered = upstream.ledger
    assert answered.started - refused.started >= 0.4


async def test_a_wait_beyond_the_first_tokens_deadline_is_not_begun(serve: Serve, upstream: Upstream) -> None:
    call = asked(fault="error_before", status=429, retry_after=120)
    async with asyncio.timeout(2):
        heard = await listen(serve(max_retries=5, first_token_timeout=1), call)
    assert (heard.failed.code, heard.failed.retry_after) == ("rate_limited", 120)
    assert len(upstream.ledger) == 1


@pytest.fixture
async def caller_of(upstream: Upstream) -> AsyncGenerator[Callable[..., tuple[Caller, ChatModel, list[Usage]]], None]:
    """A caller over the models of a config, whose main model has a stand-in; and the usage records that it makes."""
    models = Models()

    def make(**options: Any) -> tuple[Caller, ChatModel, list[Usage]]:
        def entry(kind: str, name: str, **own: Any) -> dict[str, Any]:
            where = {"base_url": upstream.url, "api_key": "k"}
            return {"type": kind, "engine": "openai", "model": name, "parameters": where, "railstream": own}

        entries = [
            entry("main", "first", fallbacks=["second"], max_retries=0, **options),
            entry("spare", "second", max_retries=0),
        ]
        served = models.of(RailsConfig.from_content(config={"models": entries}), "first")
        records: list[Usage] = []
        recorder = of_program(["first", "second"]).calls
        return Caller("chatcmpl-x", 1, served, records.append, recorder), served["main"], records

    yield make
    await models.aclose()


async def heard_from(caller: Caller, model: ChatModel) -> Heard:
    heard = Heard()
    call = Call(model.name, [{"role": "user", "content": "Hello"}])
    try:
        async with aclosing(caller.stream(model, call)) as stream:
            async for parts in stream:
                for part in parts:
                    if isinstance(part, Delta):
                        heard.hear(part)
    except CallError as error:
        heard.error = error
    return heard


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "error_before", "status": 500},
        {"fault": "error_before", "status": 401},
        {"fault": "hang", "at": 0},
        {"fault": "early_end", "at": 0},
    ],
    ids=str,
)
async def test_the_stand_in_answers_and_each_call_has_its_usage_record(
    upstream: Upstream, caller_of: Callable[..., tuple[Caller, ChatModel, list[Usage]]], fault: dict[str, Any]
) -> None:
    upstream.models |= {"first": Script(words=5, **fault), "second": Script(words=7, seed=2)}
    caller, model, records = caller_of(first_token_timeout=0.3)
    heard = await heard_from(caller, model)
    assert (heard.text, heard.error) == (says(words=7, seed=2), None)
    assert [(usage.call, usage.model, usage.outcome) for usage in records] == [
        ("1.1", "first", "failed"), ("1.2", "second", "finished"),
    ]  # fmt: skip
    assert records[0].input_tokens is None
    assert caller.tokens is not None
    assert caller.tokens.output_tokens == 7
    assert [entry.id for entry in upstream.ledger] == ["chatcmpl-x.1.1", "chatcmpl-x.1.2"]


async def test_no_stand_in_is_asked_once_text_has_left(
    upstream: Upstream, caller_of: Callable[..., tuple[Caller, ChatModel, list[Usage]]]
) -> None:
    upstream.models |= {"first": Script(words=5, fault="early_end", at=2), "second": Script(words=7)}
    caller, model, records = caller_of()
    heard = await heard_from(caller, model)
    assert heard.text == says(words=2)
    assert heard.failed.code == "truncated"
    assert [usage.model for usage in records] == ["first"]


async def test_a_wrong_request_is_not_put_to_the_stand_in(
    upstream: Upstream, caller_of: Callable[..., tuple[Caller, ChatModel, list[Usage]]]
) -> None:
    upstream.models |= {"first": Script(fault="error_before", status=400)}
    caller, model, records = caller_of()
    heard = await heard_from(caller, model)
    assert heard.failed.code == "invalid_request"
    assert [usage.model for usage in records] == ["first"]


async def test_calls_at_once_are_bounded_and_wait_in_order(upstream: Upstream) -> None:
    upstream.script = Script(words=1, hold=0)
    model = model_on(upstream, "openai", concurrency=2, queue_timeout=5)
    waiting = [asyncio.ensure_future(listen(model, asked(id=f"r.{number}"))) for number in range(5)]
    for begun in (2, 4, 5):
        await upstream.ledger.wait(calls=begun, until=lambda _: upstream.held > 0)
        await upstream.ledger.wait(until=lambda ledger, begun=begun: upstream.held == min(2, begun - ended(ledger)))
        assert len(upstream.ledger) == begun
        upstream.release()
        await upstream.ledger.wait(ended=begun)
    assert all(heard.error is None for heard in await asyncio.gather(*waiting))
    assert [entry.id for entry in upstream.ledger] == [f"r.{number}" for number in range(5)]
    await model.aclose()


def ended(ledger: Any) -> int:
    return sum(entry.outcome != "open" for entry in ledger)


async def test_a_call_that_waits_too_long_for_its_turn_is_refused(upstream: Upstream) -> None:
    upstream.script = Script(words=1, hold=0)
    model = model_on(upstream, "openai", concurrency=1, queue_timeout=0.1)
    first = asyncio.ensure_future(listen(model, asked()))
    await upstream.ledger.wait(calls=1)
    second = await listen(model, asked())
    assert (second.failed.code, second.failed.status, second.failed.retry_after) == ("rate_limited", 429, 1)
    upstream.release()
    assert (await first).error is None
    await model.aclose()


async def test_a_call_over_the_minutes_requests_is_refused_with_the_time_to_wait(upstream: Upstream) -> None:
    model = model_on(upstream, "openai", requests_per_minute=2, queue_timeout=1)
    heard = [await listen(model, asked(words=1)) for _ in range(3)]
    assert [one.error for one in heard[:2]] == [None, None]
    assert heard[2].failed.code == "rate_limited"
    assert 50 < (heard[2].failed.retry_after or 0) <= 61
    assert len(upstream.ledger) == 2
    await model.aclose()


async def test_what_a_call_waits_for_its_turn_is_no_time_of_the_call(
    upstream: Upstream, caller_of: Callable[..., tuple[Caller, ChatModel, list[Usage]]]
) -> None:
    """The duration and the time to the first token are the provider's: a call is on record once it is made."""
    upstream.models["first"] = Script(words=2, hold=0)
    caller, model, records = caller_of(concurrency=1, queue_timeout=20)
    first, second = (asyncio.ensure_future(heard_from(caller, model)) for _ in range(2))
    await upstream.ledger.wait(calls=1, until=lambda _: upstream.held == 1)
    for _ in range(20):
        await asyncio.sleep(0)  # the second has every chance to begin
    assert caller._calls == 1
    upstream.release()
    assert (await first).error is None
    await upstream.ledger.wait(calls=2, until=lambda _: upstream.held == 1)
    assert caller._calls == 2
    upstream.release()
    assert (await second).error is None
    assert [(usage.call, usage.outcome) for usage in records] == [("1.1", "finished"), ("1.2", "finished")]


async def test_a_call_that_its_limits_refuse_is_on_record_and_the_stand_in_is_asked(
    upstream: Upstream, caller_of: Callable[..., tuple[Caller, ChatModel, list[Usage]]]
) -> None:
    upstream.models |= {"first": Script(words=2), "second": Script(words=3, seed=2)}
    caller, model, records = caller_of(requests_per_minute=1, queue_timeout=1)
    assert (await heard_from(caller, model)).text == says(words=2)
    assert (await heard_from(caller, model)).text == says(words=3, seed=2)
    assert [(usage.model, usage.outcome, usage.input_tokens is None) for usage in records] == [
        ("first", "finished", False), ("first", "failed", True), ("second", "finished", False),
    ]  # fmt: skip
    assert [entry.model for entry in upstream.ledger] == ["first", "second"]
