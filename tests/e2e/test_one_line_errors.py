"""What a person does wrong with the command line, or finds down: one line on stderr that names the remedy."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from harness.commands import railstream
from harness.redis_server import RedisServer
from harness.waiting import free_port

COMMANDS = (
    ["ps"],
    ["workers"],
    ["usage"],
    ["dead"],
    ["show", "chatcmpl-" + "0" * 32],
    ["cancel", "chatcmpl-" + "0" * 32],
)
WRONG = {
    "localhost:6379": "it has no scheme",
    "http://127.0.0.1:6379": "its scheme 'http' is none of a Redis",
    "redis://127.0.0.1:port/0": "its port is no number",
    "redis://127.0.0.1/database": "its database 'database' is no number",
    "redis:///0": "it names no host",
    "redis://127.0.0.1/0?sockettimeout=3": "unexpected keyword argument 'sockettimeout'",
}


def assert_one_line(err: str) -> None:
    assert err.startswith("railstream: ")
    assert err.count("\n") == 1, err


@pytest.mark.parametrize("url", WRONG)
@pytest.mark.parametrize("command", [*COMMANDS[:1], ["gateway"], ["worker"], ["up"]], ids=lambda one: str(one[0]))
async def test_a_wrong_redis_url_is_named_with_the_forms_that_are_right(command: list[str], url: str) -> None:
    said = await railstream(*command, "--redis-url", url)
    assert (said.code, said.out) == (2, "")
    assert_one_line(said.err)
    assert WRONG[url] in said.err
    assert repr(url) in said.err


async def test_the_password_of_a_wrong_url_is_not_shown() -> None:
    for url in ("http://:geheim@127.0.0.1:6379", "redis://user:geheim@127.0.0.1:port/0", "user:geheim@127.0.0.1:6379"):
        said = await railstream("ps", "--redis-url", url)
        assert said.code == 2
        assert_one_line(said.err)
        assert "geheim" not in said.err


@pytest.mark.parametrize("command", [*COMMANDS, ["up", "--port", "0"]], ids=lambda one: str(one[0]))
async def test_a_redis_that_is_down_is_one_line_with_exit_code_1(command: list[str]) -> None:
    url = f"redis://:geheim@127.0.0.1:{free_port()}/0"
    said = await railstream(*command, "--redis-url", url)
    assert (said.code, said.out) == (1, "")
    assert_one_line(said.err)
    assert f"Redis at '{url.replace('geheim', '***')}' does not answer" in said.err
    assert "--redis-url" in said.err


async def test_a_redis_that_wants_a_password_is_said_so(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server, server.client() as redis:
        redis.config_set("requirepass", "geheim")
        port = server.url.rpartition(":")[2]
        for url in (f"redis://127.0.0.1:{port}", f"redis://:wrong@127.0.0.1:{port}"):
            said = await railstream("ps", redis_url=url)
            assert said.code == 1
            assert_one_line(said.err)
            assert "refuses the password" in said.err


async def test_a_unix_socket_is_a_redis(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(tmp_path / "redis", options={"unixsocket": str(path)}):
        said = await railstream("ps", "--json", redis_url=f"unix://{path}?db=3")
        assert said.json == {"total": 0, "requests": []}


async def test_a_port_in_use_is_said_before_a_process_starts(redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for command, option in (("gateway", "--port"), ("worker", "--http-port"), ("up", "--port")):
            said = await railstream(command, option, port, redis_url=redis_url)
            assert (said.code, said.out) == (2, "")
            assert_one_line(said.err)
            assert said.err.endswith(
                f"port {port} of 127.0.0.1 cannot be used (Address already in use); choose another one with {option}\n"
            )


async def test_a_host_that_is_not_of_this_machine_is_said(redis_url: str) -> None:
    said = await railstream("gateway", "--host", "192.0.2.1", redis_url=redis_url)
    assert said.code == 2
    assert_one_line(said.err)
    assert "192.0.2.1" in said.err


async def test_the_version_is_an_option() -> None:
    said = await railstream("--version")
    assert said.code == 0
    assert said.out.startswith("railstream ")
    assert (await railstream("-V")).out == said.out
