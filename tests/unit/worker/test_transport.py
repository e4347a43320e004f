"""The direct transport against servers that write bytes: framing, endings, reuse, and leaving in the middle."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from harness.http1 import Answer, RawServer, serving
from railstream_engine.providers.http.exchange import LIMITS
from railstream_engine.providers.http.transport import DirectTransport, body_of, direct_transport

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def says(*writes: bytes, close: bool = False) -> Answer:
    """Write these, each by itself; then leave, perhaps."""

    async def answer(_: RawServer, writer: asyncio.StreamWriter) -> None:
        for data in writes:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.001)
        if close:
            writer.close()

    return answer


@asynccontextmanager
async def asking(
    server: RawServer, transport: DirectTransport, *, scheme: str = "http", read: float = 5
) -> AsyncGenerator[httpx2.Response, None]:
    client = httpx2.AsyncClient(transport=transport, timeout=httpx2.Timeout(read, connect=5))
    url = f"{scheme}://127.0.0.1:{server.port}/v1/x?y=1"
    async with client.stream("POST", url, json={"a": "b"}) as response:
        yield response


@pytest.fixture
async def transport() -> AsyncGenerator[DirectTransport, None]:
    made = DirectTransport(keep=10, expiry=30)
    yield made
    await made.aclose()


async def read(response: httpx2.Response) -> bytes:
    return b"".join([part async for part in body_of(response)])


async def test_a_chunked_body_comes_whole_however_it_is_cut(transport: DirectTransport) -> None:
    whole = CHUNKED + b"3\r\none\r\n4;x=y\r\n two\r\n0\r\nx-trailer: 1\r\n\r\n"
    for size in (1, 5, len(whole)):
        cut = [whole[start : start + size] for start in range(0, len(whole), size)]
        async with serving(says(*cut)) as server, asking(server, transport) as response:
            assert response.status_code == 200
            assert await read(response) == b"one two"


async def test_the_request_is_what_the_client_meant(transport: DirectTransport) -> None:
    async with serving(says(b"HTTP/1.1 204 No Content\r\n\r\n")) as server, asking(server, transport) as response:
        assert (response.status_code, response.reason_phrase) == (204, "No Content")
        assert server.heads[0].startswith(b"POST /v1/x?y=1 HTTP/1.1\r\n")
        assert server.heads[0].lower().count(b"content-length: 9\r\n") == 1


async def test_a_connection_is_used_again_after_its_response_has_ended(transport: DirectTransport) -> None:
    async with serving(says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", b"ok")) as server:
        for _ in range(3):
            async with asking(server, transport) as response:
                assert await read(response) == b"ok"
        assert server.connections == 1


async def test_a_connection_whose_server_says_close_is_not_used_again(transport: DirectTransport) -> None:
    answer = says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
    async with serving(answer) as server:
        for _ in range(2):
            async with asking(server, transport) as response:
                assert await read(response) == b"ok"
        assert server.connections == 2


async def test_an_idle_connection_that_the_server_has_closed_is_not_used_again(transport: DirectTransport) -> None:
    async with serving(says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", close=True)) as server:
        for _ in range(2):
            async with asking(server, transport) as response:
                assert await read(response) == b"ok"
            await server.left.wait()
            await asyncio.sleep(0.01)
        assert server.connections == 2


async def test_leaving_in_the_middle_closes_the_connection(transport: DirectTransport) -> None:
    async with serving(says(CHUNKED, b"3\r\none\r\n")) as server:
        async with asking(server, transport) as response:
            assert await anext(body_of(response)) == b"one"
        await asyncio.wait_for(server.left.wait(), 5)


async def test_interim_answers_are_passed_over(transport: DirectTransport) -> None:
    answer = says(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    async with serving(answer) as server, asking(server, transport) as response:
        assert "link" not in response.headers
        assert await read(response) == b"ok"


async def test_a_body_without_a_length_ends_with_its_connection(transport: DirectTransport) -> None:
    answer = says(b"HTTP/1.1 200 OK\r\n\r\n", b"all", close=True)
    async with serving(answer) as server, asking(server, transport) as response:
        assert await read(response) == b"all"


async def test_a_body_that_is_cut_is_an_error_after_what_had_come(transport: DirectTransport) -> None:
    async with serving(says(CHUNKED, b"3\r\none\r\n", close=True)) as server, asking(server, transport) as response:
        body = body_of(response)
        assert await anext(body) == b"one"
        with pytest.raises(httpx2.RemoteProtocolError, match="before the body's end"):
            await anext(body)


async def test_a_connection_that_closes_without_an_answer_is_an_error(transport: DirectTransport) -> None:
    async with serving(says(close=True)) as server:
        with pytest.raises(httpx2.RemoteProtocolError, match="without an answer"):
            async with asking(server, transport):
                pass


async def test_what_is_not_http_is_an_error(transport: DirectTransport) -> None:
    async with serving(says(b"SSH-2.0-OpenSSH\r\n\r\n")) as server:
        with pytest.raises(httpx2.RemoteProtocolError, match=r"does not speak HTTP/1\.1"):
            async with asking(server, transport):
                pass


async def test_silence_is_a_timeout(transport: DirectTransport) -> None:
    async with serving(says(CHUNKED, b"3\r\none\r\n")) as server, asking(server, transport, read=0.1) as response:
        body = body_of(response)
        assert await anext(body) == b"one"
        with pytest.raises(httpx2.ReadTimeout):
            await anext(body)


async def test_a_port_that_nobody_listens_on_is_a_connect_error(transport: DirectTransport) -> None:
    async with serving(says()) as server:
        pass
    with pytest.raises(httpx2.ConnectError):
        async with asking(server, transport):
            pass


async def test_a_compressed_body_is_decoded(transport: DirectTransport) -> None:
    packed = gzip.compress(b"plain")
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with serving(says(head, packed)) as server, asking(server, transport) as response:
        assert await read(response) == b"plain"


async def test_a_reader_that_waits_holds_the_server_back(transport: DirectTransport) -> None:
    size = 8 * 1024 * 1024
    answer = says(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size, b"x" * size)
    async with serving(answer) as server, asking(server, transport) as response:
        await asyncio.sleep(0.1)
        pieces = [len(piece) async for piece in body_of(response)]
    assert sum(pieces) == size
    assert max(pieces) < size / 4


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    made = tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{made}.key", "-out", f"{made}"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl here to make a certificate with")
    return made


async def test_tls_with_a_certificate_that_is_checked(certificate: Path, transport: DirectTransport) -> None:
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate, f"{certificate}.key")
    trusting = DirectTransport(keep=1, expiry=30, ssl_context=ssl.create_default_context(cafile=certificate))
    async with serving(says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"), context=ours) as server:
        async with asking(server, trusting, scheme="https") as response:
            assert await read(response) == b"ok"
        with pytest.raises(httpx2.ConnectError, match=r"(?i)certificate"):
            async with asking(server, transport, scheme="https"):
                pass
    await trusting.aclose()


def test_a_proxy_in_the_environment_is_left_to_httpx2(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert direct_transport(LIMITS) is not None
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert direct_transport(LIMITS) is None


@pytest.mark.parametrize(("expiry", "connections"), [(30, 1), (0, 2)])
async def test_a_connection_that_was_idle_for_too_long_is_not_used_again(expiry: float, connections: int) -> None:
    transport = DirectTransport(keep=10, expiry=expiry)
    async with serving(says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")) as server:
        for _ in range(2):
            async with asking(server, transport) as response:
                assert await read(response) == b"ok"
        assert server.connections == connections
    await transport.aclose()


@pytest.mark.parametrize(("count", "accepted"), [(255, True), (256, False)])
async def test_a_response_has_at_most_256_header_fields(transport: DirectTransport, count: int, accepted: bool) -> None:
    fields = b"".join(b"x-%d: y\r\n" % number for number in range(count))
    answer = says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" + fields + b"\r\nok")
    async with serving(answer) as server:
        if accepted:
            async with asking(server, transport) as response:
                assert await read(response) == b"ok"
        else:
            with pytest.raises(httpx2.RemoteProtocolError, match="does not speak"):
                async with asking(server, transport):
                    pass
