"""One suite over every engine that speaks HTTP: what a call gives, how it fails, and that it stops the provider."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import msgspec
import pytest
from contract.llm_rig import KEY, asked, listen, model_on
from railstream.testing import Script, Upstream
from railstream_engine.providers.port import ChatModel

Serve = Callable[..., ChatModel]
ENGINES = ["openai", "anthropic", "google_genai", "gemini"]
GOOGLES = ("google_genai", "gemini")
"""They name no request in their responses."""


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "anthropic":
        pytest.importorskip("anthropic", reason="the extra `anthropic` is not installed")
    return str(request.param)


@pytest.fixture
async def serve(engine: str, upstream: Upstream) -> AsyncGenerator[Serve, None]:
    async with AsyncExitStack() as stack:

        def start(**options: Any) -> ChatModel:
            model = model_on(upstream, engine, **options)
            stack.push_async_callback(model.aclose)
            return model

        yield start


def says(**script: Any) -> str:
    return "".join(Script(**script).says())


async def test_an_answer_is_its_text_its_end_and_its_usage(serve: Serve, upstream: Upstream) -> None:
    heard = await listen(serve(), asked(words=30, seed=4, prompt_tokens=11, cached_tokens=3))
    assert heard.error is None
    assert heard.text == says(words=30, seed=4)
    assert [(finish.index, finish.reason) for finish in heard.finishes] == [(0, "stop")]
    last = heard.tokens[-1]
    assert (last.input_tokens, last.cached_input_tokens, last.output_tokens) == (11, 3, 30)
    assert (last.raw["prompt_tokens"], last.raw["completion_tokens"], last.raw["total_tokens"]) == (11, 30, 41)
    assert [info.model for info in heard.infos] == ["m-1"]
    (entry,) = await upstream.ledger.wait(ended=1)
    assert (entry.outcome, entry.id) == ("finished", "chatcmpl-test.1.1")


async def test_every_delta_is_an_openai_delta_of_what_it_says(serve: Serve) -> None:
    heard = await listen(serve(), asked(words=3, reasoning=2, tool_calls=[{"name": "f", "arguments": "{}"}]))
    for delta in heard.deltas:
        raw = msgspec.json.decode(delta.raw)
        raw.pop("role", None)  # some say it with each
        if delta.content:
            assert raw == {"content": delta.content}
        elif delta.reasoning:
            assert raw == {"reasoning_content": delta.reasoning}
        else:
            assert raw["tool_calls"] == msgspec.json.decode(delta.tools)


@pytest.mark.parametrize("fault", [None, "split_utf8", "crlf", "comments", "ids"])
async def test_text_arrives_as_it_was_said_however_its_bytes_are_framed(serve: Serve, fault: str | None) -> None:
    text = 'Grüße, 東京! 👩‍🚀\n\ttab "quoted" \\ \u2028 end'
    heard = await listen(serve(), asked(text=text, fault=fault))
    assert (heard.text, heard.error) == (text, None)


async def test_reasoning_is_told_from_the_answer_and_counted_inside_the_output(serve: Serve, engine: str) -> None:
    heard = await listen(serve(), asked(words=5, reasoning=4))
    assert heard.text == says(words=5)
    # Google's compatible endpoint shows no thoughts, and counts them in the total alone.
    assert len(heard.reasoning.split()) == (4 if engine != "gemini" else 0)
    last = heard.tokens[-1]
    assert (last.output_tokens, last.reasoning_tokens) == (9, 4)


async def test_tool_calls_come_with_their_ids_and_their_arguments_in_pieces(serve: Serve) -> None:
    calls = [
        {"name": "weather", "arguments": '{"city": "Zürich", "days": [1, 2]}', "id": "call_1"},
        {"name": "clock", "arguments": '{"zone": "Asia/Tokyo"}', "id": "call_2"},
    ]
    heard = await listen(serve(), asked(tool_calls=calls))
    assert list(heard.tools.values()) == [
        {"id": "call_1", "name": "weather", "arguments": calls[0]["arguments"]},
        {"id": "call_2", "name": "clock", "arguments": calls[1]["arguments"]},
    ]
    assert [finish.reason for finish in heard.finishes] == ["tool_calls"]


@pytest.mark.parametrize(("told", "reason"), [("length", "length"), ("content_filter", "content_filter")])
async def test_why_an_answer_ended_is_one_word_for_all_providers(serve: Serve, told: str, reason: str) -> None:
    heard = await listen(serve(), asked(words=2, finish_reason=told))
    (finish,) = heard.finishes
    assert finish.reason == reason
    assert finish.raw_reason
    assert heard.tokens[-1].output_tokens == 2


async def test_a_cleanly_cut_stream_is_a_truncation_never_a_success(serve: Serve) -> None:
    heard = await listen(serve(), asked(words=10, fault="early_end", at=4))
    assert heard.text == says(words=4)
    assert heard.failed.code == "truncated"
    assert heard.failed.retryable


@pytest.mark.parametrize(
    "fault", [{"fault": "early_end"}, {"fault": "reset"}, {"fault": "error_during"}, {"fault": "hang"}], ids=str
)
async def test_what_fails_after_the_first_content_carries_the_text_so_far(serve: Serve, fault: dict[str, Any]) -> None:
    heard = await listen(serve(chunk_timeout=0.3), asked(words=10, at=4, **fault))
    assert heard.text
    assert heard.failed.partial == heard.text


async def test_a_reset_in_mid_stream_is_a_lost_connection(serve: Serve) -> None:
    heard = await listen(serve(), asked(words=10, fault="reset", at=4))
    assert says(words=4).startswith(heard.text)
    assert (heard.failed.code, heard.failed.status) == ("connection", 502)


@pytest.mark.parametrize(("status", "code"), [(529, "overloaded"), (429, "rate_limited"), (500, "provider")])
async def test_an_error_in_mid_stream_is_told_by_its_type(serve: Serve, engine: str, status: int, code: str) -> None:
    heard = await listen(serve(), asked(words=10, fault="error_during", at=3, status=status))
    assert heard.text == says(words=3)
    # OpenAI's error object of the testing upstream has the same type for all of them; Anthropic's tells them apart.
    assert heard.failed.code == (code if engine != "openai" else "provider")
    assert "as it was told to" in heard.failed.message


async def test_bytes_that_are_no_event_are_an_error_of_the_provider(serve: Serve) -> None:
    heard = await listen(serve(), asked(words=5, fault="bad_json", at=2))
    assert heard.failed.code == "provider"


async def test_silence_between_two_tokens_is_a_timeout_that_says_which(serve: Serve, upstream: Upstream) -> None:
    heard = await listen(serve(chunk_timeout=0.2), asked(words=10, fault="hang", at=3))
    assert heard.text == says(words=3)
    assert (heard.failed.code, heard.failed.param, heard.failed.status) == ("timeout", "chunk_timeout", 504)
    (entry,) = await upstream.ledger.wait(ended=1)
    assert entry.outcome == "closed_by_client"


@pytest.mark.parametrize("at", [-1, 0])
async def test_no_first_token_is_a_timeout_that_says_which(serve: Serve, upstream: Upstream, at: int) -> None:
    heard = await listen(serve(first_token_timeout=0.2), asked(words=10, fault="hang", at=at))
    assert (heard.failed.code, heard.failed.param) == ("timeout", "first_token_timeout")
    (entry,) = await upstream.ledger.wait(ended=1)
    assert entry.outcome == "closed_by_client"


async def test_a_slow_first_token_is_not_silence_between_tokens(serve: Serve) -> None:
    heard = await listen(serve(chunk_timeout=0.1, first_token_timeout=5), asked(words=3, delay_first=0.3))
    assert (heard.text, heard.error) == (says(words=3), None)


async def test_an_answer_that_never_ends_meets_the_total_deadline(serve: Serve, upstream: Upstream) -> None:
    heard = await listen(serve(total_timeout=0.3), asked(words=500, rate=50))
    assert (heard.failed.code, heard.failed.param) == ("timeout", "total_timeout")
    (entry,) = await upstream.ledger.wait(ended=1)
    assert entry.outcome == "closed_by_client"


@pytest.mark.parametrize(
    ("status", "code", "shown", "retryable"),
    [
        (400, "invalid_request", 400, False),
        (401, "authentication", 502, False),
        (403, "permission", 502, False),
        (404, "not_found", 404, False),
        (429, "rate_limited", 429, True),
        (500, "provider", 502, True),
        (503, "overloaded", 503, True),
        (529, "overloaded", 503, True),
    ],
)
async def test_a_refusal_before_the_answer_is_told_by_its_status(
    serve: Serve, engine: str, status: int, code: str, shown: int, retryable: bool
) -> None:
    heard = await listen(serve(), asked(fault="error_before", status=status))
    error = heard.failed
    assert (error.code, error.status, error.retryable) == (code, shown, retryable)
    assert error.partial == ""
    assert error.provider_request_id == ("chatcmpl-test.1.1" if engine not in GOOGLES else None)


@pytest.mark.parametrize("retry_after", [None, 7.5])
async def test_a_rate_limit_says_when_to_come_again_where_the_provider_does(
    serve: Serve, retry_after: float | None
) -> None:
    heard = await listen(serve(), asked(fault="error_before", status=429, retry_after=retry_after))
    assert (heard.failed.code, heard.failed.retry_after) == ("rate_limited", retry_after)


async def test_a_wrong_key_is_an_authentication_error_that_does_not_show_it(engine: str) -> None:
    async with Upstream(api_key="another") as upstream:
        model = model_on(upstream, engine)
        heard = await listen(model, asked(words=1))
        await model.aclose()
    assert heard.failed.code == "authentication"
    assert KEY not in heard.failed.message


async def test_a_provider_that_is_not_there_cannot_be_reached(engine: str) -> None:
    with socket.socket() as taken:  # bound, so that nobody else listens there, and not listening
        taken.bind(("127.0.0.1", 0))
        model = model_on(Upstream(port=taken.getsockname()[1]), engine)
        heard = await listen(model, asked(words=1))
        await model.aclose()
    assert heard.failed.code == "connection"
    assert "http" not in heard.failed.message


async def test_leaving_early_stops_the_provider(serve: Serve, upstream: Upstream) -> None:
    heard = await listen(serve(), asked(words=5000, rate=200), stop_after=3)
    (entry,) = await upstream.ledger.wait(ended=1, timeout=5)
    assert entry.outcome == "closed_by_client"
    assert 3 <= len(heard.deltas) <= entry.tokens < 500


@pytest.mark.parametrize("at", [-1, 2])
async def test_cancelling_the_reader_stops_the_provider(serve: Serve, upstream: Upstream, at: int) -> None:
    reading = asyncio.ensure_future(listen(serve(), asked(words=50, fault="hang", at=at)))
    await upstream.ledger.wait(calls=1, tokens=max(0, at))
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    (entry,) = await upstream.ledger.wait(ended=1, timeout=5)
    assert entry.outcome == "closed_by_client"


async def test_closing_before_the_first_read_sends_nothing(serve: Serve, upstream: Upstream) -> None:
    async with aclosing(serve().stream(asked(words=5))):
        pass
    assert len(upstream.ledger) == 0


async def test_connections_are_used_again(serve: Serve, upstream: Upstream) -> None:
    model = serve()
    for _ in range(4):
        assert (await listen(model, asked(words=3))).error is None
    assert len(upstream._connections) == 1


async def test_text_that_came_with_an_error_in_one_read_is_told_before_it(serve: Serve) -> None:
    heard = await listen(serve(), asked(words=6, fault="error_during", at=6))
    assert heard.text == says(words=6)
    assert heard.failed.code == "provider"
