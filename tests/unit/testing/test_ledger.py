"""The ledger, in process and over HTTP: what was written, how it ended, and waiting for either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from harness.processes import UpstreamProcess
from harness.sse import fetch, opened
from openai import AsyncOpenAI
from railstream.testing import Script, Upstream, text

from .conftest import asking


async def test_a_finished_call_is_written_down_whole(upstream: Upstream, chunks_of: Callable[..., Any]) -> None:
    request = {"stream_options": {"include_usage": True}, "extra_headers": {"X-Request-Id": "chatcmpl-1.2.3"}}
    await chunks_of(request, words=5, prompt_tokens=8)
    entry = upstream.ledger[0]
    assert (entry.id, entry.request, entry.model, entry.outcome) == ("chatcmpl-1.2.3", "chatcmpl-1", "any", "finished")
    assert (entry.tokens, entry.usage_sent) == (5, True)
    assert entry.usage is not None
    assert entry.usage["total_tokens"] == 13
    assert entry.body is not None
    assert entry.body["stream_options"] == {"include_usage": True}
    assert entry.ended is not None
    assert entry.first_token is not None
    assert entry.started <= entry.first_token <= entry.ended


async def test_a_client_that_leaves_stops_the_generation(upstream: Upstream, open_stream: Callable[..., Any]) -> None:
    async with await open_stream(words=500, rate=100) as stream:
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    (entry,) = await upstream.ledger.wait(open=0, timeout=1)
    assert entry.outcome == "closed_by_client"
    assert 1 <= entry.tokens < 50
    assert not entry.usage_sent


async def test_a_client_that_reads_nothing_holds_the_generation_back(upstream: Upstream) -> None:
    body = {"model": "any", "messages": asking(words=200_000), "stream": True}
    async with opened(f"{upstream.url}/chat/completions", body=body, receive_buffer=4096):
        await upstream.ledger.wait(tokens=100)
    (entry,) = await upstream.ledger.wait(open=0)
    assert entry.outcome == "closed_by_client"
    assert entry.tokens < 200_000


async def test_held_answers_wait_for_the_release(upstream: Upstream, open_stream: Callable[..., Any]) -> None:
    async with await open_stream(words=9, rate=500, hold=4) as stream:
        await upstream.ledger.wait(until=lambda ledger: upstream.held == 1)
        assert (upstream.ledger[0].outcome, upstream.ledger[0].tokens) == ("open", 4)
        assert upstream.release() == 1
        said = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(said) == text.text(0, 9)


async def test_a_wait_that_is_not_met_says_what_there_is(upstream: Upstream, chunks_of: Callable[..., Any]) -> None:
    await chunks_of(words=2)
    with pytest.raises(TimeoutError, match=r"call-1.*finished.*2"):
        await upstream.ledger.wait(calls=2, timeout=0.01)


async def test_a_server_that_stops_cuts_its_calls_and_says_so() -> None:
    async with (
        Upstream(Script(words=1000, rate=10)) as upstream,
        AsyncOpenAI(base_url=upstream.url, api_key="any") as sdk,
    ):
        messages: Any = [{"role": "user", "content": "Hi"}]
        stream = await sdk.chat.completions.create(model="any", messages=messages, stream=True)
        await upstream.ledger.wait(tokens=1)
        await upstream.aclose()
        assert upstream.ledger[0].outcome == "stopped"
        await stream.close()


async def test_the_ledger_is_read_filtered_awaited_and_cleared_over_http(
    upstream: Upstream, chunks_of: Callable[..., Any]
) -> None:
    await chunks_of(words=2)
    await chunks_of({"model": "other"}, words=3, fault="early_end", at=1)
    status, report = await fetch(f"{upstream.url}/ledger/wait?open=0&calls=2")
    assert status == 200
    assert report["totals"]["tokens"] == 3
    assert report["totals"]["outcomes"] == {"finished": 1, "fault": 1}
    _, other = await fetch(f"{upstream.url}/ledger?model=other")
    assert [call["fault"] for call in other["calls"]] == ["early_end"]
    status, late = await fetch(f"{upstream.url}/ledger/wait?calls=9&timeout=0.01")
    assert status == 408
    assert late["totals"]["calls"] == 2
    await fetch(f"{upstream.url}/ledger", method="DELETE")
    assert len(upstream.ledger) == 0


async def test_the_server_runs_as_a_program(tmp_path: Any) -> None:
    options = ["--words", "3", "--model", 'judge={"judge": {"marker": "X"}}', "--json"]
    process = UpstreamProcess(directory=tmp_path, options=options).start()
    try:
        await process.ready()
        async with AsyncOpenAI(base_url=process.url, api_key="any") as sdk:
            messages: Any = [{"role": "user", "content": "X"}]
            answer = await sdk.chat.completions.create(model="any", messages=messages)
            assert answer.choices[0].message.content == text.text(0, 3)
            verdict = await sdk.chat.completions.create(model="judge", messages=messages)
            assert verdict.choices[0].message.content == "Yes"
        assert f'"url": "{process.url}"' in process.output()
        assert await process.terminate() == 0
    finally:
        process.stop()
