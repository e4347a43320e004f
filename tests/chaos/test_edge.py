"""G11: hostile bytes at the HTTP edge are refused or cut off before the queue, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import random
import struct
from collections.abc import AsyncGenerator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import pytest_asyncio
from chaos import stories
from chaos.conftest import SEED
from chaos.exploring import explore
from chaos.world import World, running_world
from harness.waiting import until
from railstream import keys

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="module")]

GOOD = json.dumps({"model": "testing", "messages": [{"role": "user", "content": "hi"}]}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
HEADER_TIMEOUT = 2.0
LIMITS = {"RAILSTREAM_HEADER_TIMEOUT": str(HEADER_TIMEOUT), "RAILSTREAM_BODY_LIMIT": "100000"}
PATIENT = {"RAILSTREAM_REDIS_TIMEOUT": "5", "RAILSTREAM_LEASE": "10"}
"""Nothing breaks here but requests: a machine that pauses for a second must not look like a Redis that is down."""


def request(body: bytes, length: object = None) -> bytes:
    return HEAD + b"content-length: %b\r\n\r\n%b" % (str(len(body) if length is None else length).encode(), body)


def deep(levels: int) -> bytes:
    return b'{"model":"testing","messages":' + b"[" * levels + b"]" * levels + b"}"


REFUSED: dict[str, tuple[bytes, set[int]]] = {
    "a body that is not JSON": (request(b"{" * 50), {400}),
    "a body of bad UTF-8": (request(b'{"model":"\xff\xfe\xc3("}'), {400}),
    "half a surrogate pair, and nothing else": (request(b'{"messages":"\\ud800"}'), {400}),
    "arrays ten thousand deep": (request(deep(10_000)), {400}),
    "numbers without end": (request(b'{"max_tokens":' + b"9" * 50_000 + b',"messages":[]}'), {400}),
    "no messages": (request(b'{"model":"testing","messages":[]}'), {400}),
    "a body past the limit": (request(b'{"x":"' + b"a" * 200_000 + b'"}'), {413}),
    "a length past the limit, and no body": (request(b"", 10**12), {413}),
    "a chunked body past the limit": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + (b"4000\r\n" + b"a" * 0x4000 + b"\r\n") * 20 + b"0\r\n\r\n",
        {413},
    ),
    "a length that is no number": (request(GOOD, "ten"), {400}),
    "a negative length": (request(GOOD, -1), {400}),
    "two lengths": (HEAD + b"content-length: 3\r\ncontent-length: 9\r\n\r\n{}", {400}),
    "a length and chunks": (HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "headers past the limit": (HEAD + b"x-huge: " + b"a" * 300_000 + b"\r\n\r\n", {431, 400}),
    "ten thousand headers": (HEAD + b"".join(b"x-%d: 1\r\n" % n for n in range(10_000)) + b"\r\n", {431, 400}),
    "a bare zero byte": (b"GET /v1/models\0 HTTP/1.1\r\nhost: localhost\r\n\r\n", {400, 404}),
    "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64, {400}),
    "a config outside the root": (
        request(json.dumps({"messages": [{"role": "user", "content": "x"}], "config_id": "../../etc"}).encode()),
        {400},
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World, None]:
    directory: Path = tmp_path_factory.mktemp("edge")
    async with running_world(directory, seed=SEED, workers=1, gateways=1, settings=LIMITS | PATIENT) as one:
        yield one


async def sent(world: World, data: bytes, *, finish: bool = False, timeout: float = 10) -> bytes:
    """The whole answer to raw bytes; empty when the connection is closed without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateways[0].port)
    try:
        writer.write(data)
        if finish:
            writer.write_eof()
        async with asyncio.timeout(timeout):
            answer = b""
            while b"\r\n\r\n" not in answer and (piece := await reader.read(65536)):
                answer += piece
            return answer
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def enqueued(world: World) -> int:
    with world.redis.client() as redis:
        return int(redis.xinfo_stream(keys.jobs())["entries-added"])


async def serves(world: World) -> None:
    client = stories.ask(world, 1, words=5, rate=100)[0]
    await stories.judged(world, [client], stories.start([client]))


@pytest.mark.parametrize("what", list(REFUSED))
async def test_g11_hostile_bytes_are_refused_before_the_queue(world: World, what: str) -> None:
    data, statuses = REFUSED[what]
    before = enqueued(world)
    answer = await sent(world, data)
    # A server that has said no may close before all was sent, and TCP may then lose what it said.
    assert not answer or int(answer.split(b" ")[1]) in statuses, answer[:200]
    assert enqueued(world) == before
    await serves(world)


async def test_g11_a_truncated_body_is_no_request(world: World) -> None:
    before = enqueued(world)
    for cut in range(1, len(GOOD), 7):
        await sent(world, request(GOOD[:cut], len(GOOD)), finish=True, timeout=5)
    assert enqueued(world) == before
    await serves(world)


async def test_g11_slow_headers_are_cut_off_in_time(world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateways[0].port)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises((ConnectionError, TimeoutError, EOFError)):
        await drip(reader, writer)
    assert loop.time() - began < HEADER_TIMEOUT + 3
    writer.transport.abort()
    await serves(world)


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A header byte now and then, until the server has had enough."""
    for byte in HEAD * 10:
        writer.write(bytes((byte,)))
        await writer.drain()
        try:
            async with asyncio.timeout(0.2):
                if not await reader.read(100):
                    raise EOFError
        except TimeoutError:
            continue


async def test_g11_two_hundred_connections_that_say_nothing_keep_nobody_out(world: World) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", world.gateways[0].port) for _ in range(200)]
    try:
        await serves(world)
    finally:
        for _, writer in silent:
            writer.transport.abort()


async def test_g11_random_bytes_and_random_mutations_never_end_the_gateway(world: World) -> None:
    draw = random.Random(SEED)
    pid, whole = world.gateways[0].pid, request(GOOD)

    def mutated() -> bytes:
        data = bytearray(whole)
        for _ in range(draw.randint(1, 12)):
            at = draw.randrange(len(data))
            data[at : at + draw.randint(0, 4)] = draw.randbytes(draw.randint(0, 6))
        return bytes(data)

    for number in range(150):
        data = draw.randbytes(draw.randint(1, 400)) if number % 3 == 0 else mutated()
        answer = await sent(world, data, finish=True, timeout=15)
        assert not answer or answer.startswith(b"HTTP/1.1 "), struct.pack("I", number) + answer[:100]
        assert not answer.startswith(b"HTTP/1.1 5") or b"503" in answer[:12], (data, answer[:300])
    assert world.gateways[0].pid == pid
    assert world.gateways[0].running
    await until(lambda: "Traceback" not in world.gateways[0].output(), what="nothing crashed inside")
    await world.quiet()
    await serves(world)


async def test_g11_the_openapi_document_is_what_the_gateway_does(world: World) -> None:
    """Schemathesis: valid and invalid requests of every operation; no 5xx, and nothing that contradicts the schema."""
    with ProcessPoolExecutor(1, get_context("spawn")) as own_process:
        failures = await asyncio.get_running_loop().run_in_executor(own_process, explore, world.gateways[0].url)
    assert not failures, "\n\n".join(failures)
    await world.quiet()
    await serves(world)
