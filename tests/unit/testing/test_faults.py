"""Each fault as the `openai` SDK sees it, and what the ledger says of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from harness.sse import Incomplete, opened
from openai import AsyncOpenAI
from railstream.testing import Script, Upstream, text

from .conftest import asking


def said(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.fixture
def read_until(open_stream: Callable[..., Any]) -> Callable[..., Any]:
    """Read a stream until the error; what had come by then, and the error, if there was one."""

    async def read(request: dict[str, Any] | None = None, **script: Any) -> tuple[list[Any], Exception | None]:
        chunks: list[Any] = []
        try:
            async with await open_stream(request, **script) as stream:
                async for chunk in stream:
                    chunks.append(chunk)
        except Exception as error:
            return chunks, error
        return chunks, None

    return read


async def test_a_refusal_before_the_answer_carries_status_and_retry_after(
    upstream: Upstream, read_until: Callable[..., Any]
) -> None:
    _, error = await read_until(fault="error_before", status=429, retry_after=7)
    assert isinstance(error, openai.RateLimitError)
    assert error.response.headers["retry-after"] == "7"
    assert (upstream.ledger[0].outcome, upstream.ledger[0].status) == ("fault", 429)


async def test_the_sdk_gets_through_when_only_the_first_calls_fail(upstream: Upstream, sdk: AsyncOpenAI) -> None:
    messages = asking(words=3, fault="error_before", status=503, retry_after=0.01, times=2)
    answer = await sdk.with_options(max_retries=2).chat.completions.create(model="any", messages=messages)
    assert answer.choices[0].message.content == text.text(0, 3)
    assert [entry.outcome for entry in upstream.ledger] == ["fault", "fault", "finished"]


async def test_an_error_event_in_the_stream_is_an_api_error(upstream: Upstream, read_until: Callable[..., Any]) -> None:
    chunks, error = await read_until(words=9, fault="error_during", at=4)
    assert type(error) is openai.APIError
    assert said(chunks) == text.text(0, 4)
    assert (upstream.ledger[0].outcome, upstream.ledger[0].tokens) == ("fault", 4)


async def test_an_early_clean_end_looks_like_success_to_the_sdk(
    upstream: Upstream, read_until: Callable[..., Any]
) -> None:
    chunks, error = await read_until(words=9, fault="early_end", at=4)
    assert error is None
    assert said(chunks) == text.text(0, 4)
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks)
    assert upstream.ledger[0].outcome == "fault"


async def test_a_missing_done_still_has_the_finish_reason(upstream: Upstream) -> None:
    body = {"model": "any", "messages": asking(words=3, fault="no_done"), "stream": True}
    async with opened(f"{upstream.url}/chat/completions", body=body) as stream:
        frames = await stream.read()
    assert frames[-1].json["choices"][0]["finish_reason"] == "stop"


async def test_a_reset_in_mid_stream_is_a_connection_error(upstream: Upstream, read_until: Callable[..., Any]) -> None:
    chunks, error = await read_until(words=9, fault="reset", at=4)
    assert type(error) is openai.APIConnectionError
    assert said(chunks) == text.text(0, 4)
    assert upstream.ledger[0].tokens == 4


@pytest.mark.parametrize("stream", [True, False])
async def test_a_reset_before_the_headers_is_a_connection_error(sdk: AsyncOpenAI, stream: bool) -> None:
    with pytest.raises(openai.APIConnectionError):
        await sdk.chat.completions.create(model="any", messages=asking(fault="reset", at=-1), stream=stream)


@pytest.mark.parametrize(("at", "come"), [(-1, 0), (0, 0), (4, 4)])
async def test_a_hang_is_a_timeout_and_the_ledger_sees_the_client_leave(
    upstream: Upstream, read_until: Callable[..., Any], at: int, come: int
) -> None:
    chunks, error = await read_until({"timeout": 0.2}, words=9, fault="hang", at=at)
    assert isinstance(error, openai.APITimeoutError)
    assert said(chunks) == text.text(0, come)
    (entry,) = await upstream.ledger.wait(open=0)
    assert (entry.outcome, entry.fault, entry.tokens) == ("closed_by_client", "hang", come)


async def test_slow_headers_are_slow_and_then_all_is_well(read_until: Callable[..., Any]) -> None:
    assert isinstance((await read_until({"timeout": 0.1}, fault="slow_headers", seconds=3))[1], openai.APITimeoutError)
    chunks, error = await read_until(words=3, fault="slow_headers", seconds=0.05)
    assert error is None
    assert said(chunks) == text.text(0, 3)


async def test_an_event_that_is_not_json_breaks_the_sdk_with_a_plain_decode_error(
    read_until: Callable[..., Any],
) -> None:
    chunks, error = await read_until(words=9, fault="bad_json", at=4)
    assert isinstance(error, json.JSONDecodeError)
    assert said(chunks) == text.text(0, 4)


@pytest.mark.parametrize("fault", ["split_utf8", "crlf", "comments"])
async def test_odd_but_valid_framing_changes_nothing(read_until: Callable[..., Any], fault: str) -> None:
    chunks, error = await read_until(text="naïve größer 東京 👩‍🚀 plain", fault=fault)
    assert error is None
    assert said(chunks) == "naïve größer 東京 👩‍🚀 plain"


async def test_a_comment_after_an_event_id_breaks_the_sdk_though_it_is_valid(
    upstream: Upstream, read_until: Callable[..., Any]
) -> None:
    assert isinstance((await read_until(words=3, fault="ids"))[1], json.JSONDecodeError)
    body = {"model": "any", "messages": asking(words=3, fault="ids"), "stream": True}
    async with opened(f"{upstream.url}/chat/completions", body=body) as stream:
        await stream.read()
    assert stream.text == text.text(0, 3)
    assert stream.comments == len(stream.frames)


async def test_a_split_event_really_arrives_in_two_pieces_inside_a_character(upstream: Upstream) -> None:
    body = {"model": "any", "messages": asking(deltas=["東京"], fault="split_utf8"), "stream": True}
    async with opened(f"{upstream.url}/chat/completions", body=body) as stream:
        pieces = [piece async for piece in stream.pieces()]
    with pytest.raises(UnicodeDecodeError):
        pieces[1].decode()
    assert "東京" in b"".join(pieces[1:3]).decode()


async def test_one_huge_delta_is_one_event(upstream: Upstream, read_until: Callable[..., Any]) -> None:
    chunks, error = await read_until(words=3, fault="one_huge_delta", at=1)
    assert error is None
    longest = max(len(chunk.choices[0].delta.content or "") for chunk in chunks)
    assert longest == 1024 * 1024
    assert said(chunks) == "".join(Script(words=3, fault="one_huge_delta", at=1).says())


@pytest.mark.parametrize("fault", ["early_end", "reset"])
async def test_a_whole_answer_that_is_cut_is_a_connection_error(sdk: AsyncOpenAI, fault: str) -> None:
    with pytest.raises(openai.APIConnectionError):
        await sdk.chat.completions.create(model="any", messages=asking(fault=fault))


async def test_a_client_that_breaks_out_but_keeps_the_stream_lets_it_run_to_the_end(
    upstream: Upstream, open_stream: Callable[..., Any]
) -> None:
    stream = await open_stream(words=30, rate=300)
    async for _ in stream:
        break
    (entry,) = await upstream.ledger.wait(open=0)
    assert (entry.outcome, entry.tokens) == ("finished", 30)
    await stream.close()


async def test_a_cancelled_task_closes_the_upstream_at_once(upstream: Upstream, read_until: Callable[..., Any]) -> None:
    task = asyncio.create_task(read_until(words=1000, rate=100))
    await upstream.ledger.wait(tokens=3)
    task.cancel()
    (entry,) = await upstream.ledger.wait(open=0, timeout=1)
    assert entry.outcome == "closed_by_client"
    assert 3 <= entry.tokens < 50
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cut_body_is_seen_as_cut_by_a_raw_client(upstream: Upstream) -> None:
    body = {"model": "any", "messages": asking(words=9, fault="reset", at=4), "stream": True}
    async with opened(f"{upstream.url}/chat/completions", body=body) as stream:
        with pytest.raises(Incomplete):
            await stream.read()
    assert stream.text == text.text(0, 4)
