"""Fallbacks as they are seen from both ends: one stream for the client, a span for each call that was made."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from harness.stack import Stack
from railstream.testing import Script
from telemetry.otlp import Receiver

StartStack = Callable[..., Awaitable[Stack]]
CONFIG = {
    "main": {
        "models": [
            {
                "type": "main",
                "engine": "openai",
                "model": "testing",
                "railstream": {"max_retries": 0, "fallbacks": ["spare"]},
            },
            {"type": "spare", "engine": "google_genai", "model": "spare"},
        ]
    }
}


async def test_a_stand_ins_call_stands_beside_the_one_that_failed_in_one_trace(start_stack: StartStack) -> None:
    async with Receiver() as receiver:
        stack = await start_stack(configs=CONFIG, environment=receiver.environment)
        stack.upstream.models |= {"testing": Script(fault="error_before", status=503), "spare": Script(words=6)}
        trace_id = secrets.token_hex(16)
        headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
        async with stack.client() as client:
            answer = await client.chat.completions.create(
                model="testing", messages=[{"role": "user", "content": "Hi"}], extra_headers=headers
            )
        trace = await receiver.wait_for(trace_id, "process railstream:jobs", "chat testing", "chat spare")
    assert answer.choices[0].message.content == "".join(Script(words=6).says())
    (failed,), (made,) = trace["chat testing"], trace["chat spare"]
    (attempt,) = trace["process railstream:jobs"]
    assert failed.parent_id == made.parent_id == attempt.span_id
    assert failed.attributes["error.type"] == "overloaded"
    assert "gen_ai.usage.output_tokens" not in failed.attributes
    assert made.attributes["gen_ai.provider.name"] == "gcp.gemini"
    assert made.attributes["gen_ai.usage.output_tokens"] == 6


async def test_after_the_first_token_the_client_has_the_text_and_the_typed_error(start_stack: StartStack) -> None:
    stack = await start_stack(configs=CONFIG)
    stack.upstream.models |= {"testing": Script(words=9, fault="early_end", at=4), "spare": Script(words=6)}
    texts: list[str] = []
    async with stack.client() as client:
        stream: Any = await client.chat.completions.create(
            model="testing", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        with pytest.raises(openai.APIError) as caught:
            await read_into(texts, stream)
    assert "".join(texts) == "".join(Script(words=9).says()[:4])
    assert caught.value.code == "truncated"
    assert [entry.model for entry in stack.upstream.ledger] == ["testing"]


async def read_into(texts: list[str], stream: Any) -> None:
    async for chunk in stream:
        texts += [choice.delta.content or "" for choice in chunk.choices]
