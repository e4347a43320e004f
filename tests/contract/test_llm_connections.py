"""Connections to providers: dead addresses, dead kept ones, redirects, huge errors, and bodies that stay open."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import pytest
from contract.llm_rig import Heard, asked, listen
from harness.http1 import Answer, RawServer, serving
from railstream.config import RailsConfig
from railstream_engine.models import build
from railstream_engine.providers.http import dialing, pace
from railstream_engine.providers.port import Call, ChatModel

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def model_at(
    port: int, host: str = "127.0.0.1", engine: str = "openai", **options: object
) -> AsyncGenerator[ChatModel, None]:
    where = {"base_url": f"http://{host}:{port}/v1", "api_key": "k"}
    entry = {"type": "main", "engine": engine, "model": "m-1", "parameters": where}
    config = RailsConfig.from_content(config={"models": [entry | {"railstream": {"max_retries": 0} | options}]})
    model = build(config.models[0], config.deadlines_of(config.models[0]))
    try:
        yield model
    finally:
        await model.aclose()


def sse(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def piece(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


TEXT = sse({"choices": [{"index": 0, "delta": {"content": "hello"}}]})
END = sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
USAGE = sse({"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 1}})
WHOLE = HEAD + piece(TEXT + END + USAGE + b"data: [DONE]\n\n") + b"0\r\n\r\n"


async def whole(_: RawServer, writer: asyncio.StreamWriter) -> None:
    writer.write(WHOLE)


def beating(*events: bytes) -> Answer:
    """These, then heartbeats until the client leaves."""

    async def answer(_: RawServer, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + piece(b"".join(events)))
        while not writer.is_closing():
            writer.write(piece(b": beat\n\n"))
            await writer.drain()
            await asyncio.sleep(0.02)

    return answer


class Directly:
    """A taker, as the worker's: parts come to it from the event loop."""

    def __init__(self) -> None:
        self.taken = 0

    def ready(self) -> bool:
        return True

    def take(self, parts: object) -> None:
        self.taken += 1


@pytest.mark.parametrize("taken", [False, True], ids=["iterated", "taken"])
@pytest.mark.parametrize("usage", [True, False], ids=["with usage", "without usage"])
async def test_an_answer_whose_body_stays_open_with_heartbeats_is_whole(
    taken: bool, usage: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "END_SIGNAL", 0.1)
    monkeypatch.setattr(pace, "LAST_USAGE", 0.2)
    async with serving(beating(TEXT, END, USAGE if usage else b"")) as provider, model_at(provider.port) as model:
        call = asked()
        call = Call(call.model, call.messages, taker=Directly()) if taken else call
        async with asyncio.timeout(10):
            heard = await listen(model, call)
            await provider.left.wait()
    assert heard.error is None
    assert heard.text == "hello"
    assert [finish.reason for finish in heard.finishes] == ["stop"]
    assert len(heard.tokens) == usage


@pytest.mark.parametrize("taken", [False, True], ids=["iterated", "taken"])
async def test_heartbeats_do_not_put_off_the_deadline_between_chunks(taken: bool) -> None:
    async with serving(beating(TEXT)) as provider, model_at(provider.port, chunk_timeout=0.2) as model:
        call = asked()
        call = Call(call.model, call.messages, taker=Directly()) if taken else call
        async with asyncio.timeout(10):
            heard = await listen(model, call)
    assert (heard.failed.code, heard.failed.param) == ("timeout", "chunk_timeout")
    assert heard.failed.partial == "hello"


async def test_the_second_choice_is_waited_for_when_the_first_has_ended() -> None:
    other = TEXT.replace(b'"index": 0', b'"index": 1') + END.replace(b'"index": 0', b'"index": 1')
    told = asyncio.Event()

    async def answer(_: RawServer, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + piece(TEXT + END))
        await told.wait()
        writer.write(piece(other + USAGE + b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with serving(answer) as provider, model_at(provider.port) as model:
        heard = Heard()
        async with aclosing(model.stream(asked(params={"n": 2}))) as stream:
            async for parts in stream:
                told.set()
                heard.deltas += [part for part in parts if hasattr(part, "content")]
    assert [delta.index for delta in heard.deltas] == [0, 1]


async def test_a_reset_after_a_whole_answer_is_no_failure() -> None:
    async def answer(_: RawServer, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + piece(TEXT))
        await writer.drain()
        writer.write(piece(END + USAGE))
        await writer.drain()
        writer.close()

    async with serving(answer) as provider, model_at(provider.port) as model:
        heard = await listen(model, asked())
    assert heard.error is None
    assert heard.text == "hello"


async def test_a_plain_completion_in_place_of_a_stream_is_the_answer() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "plain"}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()

    async def answer(_: RawServer, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)

    async with serving(answer) as provider, model_at(provider.port) as model:
        heard = await listen(model, asked())
    assert heard.error is None
    assert (heard.text, heard.tokens[-1].output_tokens) == ("plain", 1)


@pytest.fixture
async def two_addresses(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[int, None]:
    """A port: of one address that takes no connection, and of one that is free. A name resolves to both."""
    dead = socket.socket()
    dead.bind(("127.0.0.1", 0))
    dead.listen(0)
    port = int(dead.getsockname()[1])
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))

    async def both(host: str, port: int) -> list[str]:
        return ["127.0.0.1", "127.0.0.2"]

    monkeypatch.setattr(dialing, "addresses_of", both)
    yield port
    for opened in (dead, *fillers):
        opened.close()


async def test_a_host_whose_first_address_is_dead_answers_by_its_second(two_addresses: int) -> None:
    async with (
        serving(whole, "127.0.0.2", two_addresses) as provider,
        model_at(two_addresses, "provider.test") as model,
        asyncio.timeout(3),
    ):
        heard = await listen(model, asked())
    assert heard.error is None
    assert provider.requests == 1


async def test_a_host_of_which_no_address_answers_cannot_be_reached(two_addresses: int) -> None:
    async with model_at(two_addresses, "provider.test", connect_timeout=0.6) as model:
        heard = await listen(model, asked())
    assert (heard.failed.code, heard.failed.param) == ("timeout", "connect_timeout")


async def test_the_families_of_a_host_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(host: str, port: int, **_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        named = [(socket.AF_INET6, "::1"), (socket.AF_INET6, "::2"), (socket.AF_INET, "127.0.0.1")]
        return [(family, 1, 6, "", (address, port)) for family, address in named]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found, raising=False)
    assert await dialing.addresses_of("provider.test", 80) == ["::1", "127.0.0.1", "::2"]


async def test_kept_connections_that_died_cost_no_call_an_error() -> None:
    async def dies(provider: RawServer, writer: asyncio.StreamWriter) -> None:
        if provider.requests > 1 and provider.connections == 1:
            return writer.close()
        writer.write(WHOLE)

    async with serving(dies) as provider, model_at(provider.port) as model:
        assert (await listen(model, asked())).error is None
        assert (await listen(model, asked())).error is None
    assert (provider.connections, provider.requests) == (2, 3)


async def test_a_new_connection_that_dies_without_an_answer_is_not_tried_again() -> None:
    async def dies(_: RawServer, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(dies) as provider, model_at(provider.port) as model:
        assert (await listen(model, asked())).failed.code == "connection"
    assert provider.requests == 1


async def test_a_kept_connection_that_dies_within_its_answer_is_not_tried_again() -> None:
    async def dies(provider: RawServer, writer: asyncio.StreamWriter) -> None:
        if provider.requests > 1:
            writer.write(b"HTTP/1.1 200 OK\r\n")
            await writer.drain()
            return writer.close()
        writer.write(WHOLE)

    async with serving(dies) as provider, model_at(provider.port) as model:
        assert (await listen(model, asked())).error is None
        assert (await listen(model, asked())).failed.code == "connection"
    assert provider.requests == 2


def redirecting(status: int, location: str) -> Answer:
    async def answer(provider: RawServer, writer: asyncio.StreamWriter) -> None:
        if provider.requests > 1:
            return writer.write(WHOLE)
        writer.write(b"HTTP/1.1 %d X\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % (status, location.encode()))

    return answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("engine_host", ["127.0.0.1", "127.0.0.2"])
async def test_a_redirect_to_another_host_or_port_is_refused(status: int, engine_host: str) -> None:
    async with serving(whole, engine_host) as other:
        answer = redirecting(status, f"http://{engine_host}:{other.port}/v1/chat/completions")
        async with serving(answer) as provider, model_at(provider.port) as model:
            heard = await listen(model, asked())
    assert heard.failed.code == "not_found"
    assert "redirects" in str(heard.failed)
    assert other.requests == 0


async def test_a_redirect_within_the_host_is_followed() -> None:
    async with serving(redirecting(307, "/v2/chat/completions")) as provider, model_at(provider.port) as model:
        heard = await listen(model, asked())
    assert heard.error is None
    assert provider.requests == 2


async def test_an_error_body_without_an_end_is_read_to_a_bound() -> None:
    async def answer(_: RawServer, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 X\r\ntransfer-encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(piece(b"y" * 8192))
            await writer.drain()

    async with serving(answer) as provider, model_at(provider.port) as model, asyncio.timeout(10):
        heard = await listen(model, asked())
        await provider.left.wait()
    assert heard.failed.code == "invalid_request"
    assert len(str(heard.failed)) <= 4096


async def test_a_connection_that_is_reset_after_the_finish_reason_leaves_a_whole_answer() -> None:
    async def answer(provider: RawServer, writer: asyncio.StreamWriter) -> None:
        for choice in ({"delta": {"content": "Hello"}}, {"delta": {}, "finish_reason": "stop"}):
            data = sse({"choices": [{"index": 0, **choice}]})
            writer.write((HEAD if "finish_reason" not in choice else b"") + b"%x\r\n%b\r\n" % (len(data), data))
        await writer.drain()
        await asyncio.sleep(0.1)  # else the reset overtakes what was sent
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with serving(answer) as provider, model_at(provider.port) as model:
        heard = await listen(model, Call("m-1", [{"role": "user", "content": "Hi"}]))
    assert (heard.error, heard.text, [finish.reason for finish in heard.finishes]) == (None, "Hello", ["stop"])
