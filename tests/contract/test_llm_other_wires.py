"""Anthropic's and Google's wires have what OpenAI's has: our connections, and JSON in place of a stream is read."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import pytest
from contract.llm_rig import asked, listen
from contract.test_llm_connections import HEAD, model_at, piece, two_addresses
from harness.http1 import Answer, RawServer, serving

__all__ = ["two_addresses"]
ANTHROPIC: Final = "anthropic"
GOOGLE: Final = "google"
MESSAGE: dict[str, Any] = {
    "type": "message",
    "id": "msg_1",
    "model": "m-1",
    "role": "assistant",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 2, "output_tokens": 1},
}
RESPONSE: dict[str, Any] = {
    "candidates": [{"index": 0, "content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 2, "candidatesTokenCount": 1},
}
EVENTS: dict[str, list[dict[str, Any]]] = {
    ANTHROPIC: [
        {"type": "message_start", "message": {"id": "msg_1", "model": "m-1", "usage": {"input_tokens": 2}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ],
    GOOGLE: [RESPONSE],
}
WIRES: Final = pytest.mark.parametrize("engine", [ANTHROPIC, GOOGLE])


def streamed(engine: str) -> bytes:
    events = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in EVENTS[engine])
    return HEAD + piece(events) + b"0\r\n\r\n"


def plain(body: Any) -> Answer:
    """Status 200 and one JSON body."""

    async def answer(_: RawServer, writer: asyncio.StreamWriter) -> None:
        data = json.dumps(body, indent=1).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(data) + data)

    return answer


@WIRES
async def test_a_kept_connection_that_died_costs_no_call_an_error(engine: str) -> None:
    async def dies(provider: RawServer, writer: asyncio.StreamWriter) -> None:
        if len(provider.heads) > 1 and provider.connections == 1:
            return writer.close()
        writer.write(streamed(engine))

    async with serving(dies) as provider, model_at(provider.port, engine=engine) as model:
        assert (await listen(model, asked())).error is None
        heard = await listen(model, asked())
    assert (heard.error, heard.text, heard.tokens[-1].output_tokens) == (None, "hello", 1)
    assert (provider.connections, len(provider.heads)) == (2, 3)


@WIRES
async def test_a_host_whose_first_address_is_dead_answers_by_its_second(two_addresses: int, engine: str) -> None:
    async def answer(_: RawServer, writer: asyncio.StreamWriter) -> None:
        writer.write(streamed(engine))

    async with (
        serving(answer, "127.0.0.2", two_addresses),
        model_at(two_addresses, "provider.test", engine=engine) as model,
        asyncio.timeout(3),
    ):
        heard = await listen(model, asked())
    assert (heard.error, heard.text) == (None, "hello")


@pytest.mark.parametrize(
    ("engine", "body"), [(ANTHROPIC, MESSAGE), (GOOGLE, RESPONSE), (GOOGLE, [RESPONSE])], ids=["message", "one", "list"]
)
async def test_a_plain_answer_in_place_of_a_stream_is_the_answer(engine: str, body: Any) -> None:
    async with serving(plain(body)) as provider, model_at(provider.port, engine=engine) as model:
        heard = await listen(model, asked())
    assert heard.error is None
    assert (heard.text, heard.tokens[-1].input_tokens, heard.tokens[-1].output_tokens) == ("hello", 2, 1)


async def test_a_tool_call_of_a_plain_message_is_whole() -> None:
    used = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bern"}}
    body = MESSAGE | {"content": [{"type": "text", "text": "I look."}, used], "stop_reason": "tool_use"}
    async with serving(plain(body)) as provider, model_at(provider.port, engine=ANTHROPIC) as model:
        heard = await listen(model, asked())
    assert (heard.error, heard.text) == (None, "I look.")
    (tool,) = heard.tools.values()
    assert (tool["id"], tool["name"], json.loads(tool["arguments"])) == ("t1", "weather", {"city": "Bern"})


@WIRES
@pytest.mark.parametrize(
    "body",
    [{"error": {"message": "no", "type": "overloaded_error"}}, {"detail": "no"}, {"answer": 42}, []],
    ids=["error", "detail", "unknown", "empty list"],
)
async def test_json_that_is_no_answer_is_an_error(engine: str, body: Any) -> None:
    async with serving(plain(body)) as provider, model_at(provider.port, engine=engine) as model:
        heard = await listen(model, asked())
    assert heard.failed.code in ("provider", "overloaded", "truncated")
    assert heard.text == ""


@WIRES
async def test_a_later_usage_of_zeros_overwrites_nothing(engine: str) -> None:
    zeros = {
        ANTHROPIC: {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 0, "output_tokens": 0}},
        GOOGLE: {"usageMetadata": {"promptTokenCount": 0, "candidatesTokenCount": 0}},
    }[engine]
    last = EVENTS[engine][-1:] if engine == ANTHROPIC else []
    events = [*(EVENTS[engine][:-1] or EVENTS[engine]), zeros, *last]

    async def answer(_: RawServer, writer: asyncio.StreamWriter) -> None:
        body = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)
        writer.write(HEAD + piece(body) + b"0\r\n\r\n")

    async with serving(answer) as provider, model_at(provider.port, engine=engine) as model:
        heard = await listen(model, asked())
    assert heard.error is None
    assert (heard.tokens[-1].input_tokens, heard.tokens[-1].output_tokens) == (2, 1)
