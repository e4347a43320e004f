"""`railstream up` as a person uses it: one command, a completion with the OpenAI SDK, Ctrl-C, nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.commands import railstream
from harness.processes import Process
from harness.waiting import answers, free_port, until
from openai import AsyncOpenAI
from railstream import keys
from railstream.topology.connect import connect

MODEL = "railstream-scripted"


class Up(Process):
    """``railstream up`` on a free port, with the built-in scripted model."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "railstream.cli", "up", "--port", str(self.port), *options]
        temporary = {"TMPDIR": str(directory), "XDG_RUNTIME_DIR": "", "OPENAI_API_KEY": "", "NVIDIA_API_KEY": ""}
        super().__init__("up", command, directory=directory, environment=temporary)

    async def is_ready(self) -> bool:
        return "Ctrl-C stops everything" in self.output()

    def client(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="not-needed", max_retries=0, timeout=30)

    def children(self) -> dict[str, int]:
        """Process ids by command."""
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                fields = (directory / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                command = (directory / "cmdline").read_text(encoding="utf-8").replace("\0", " ")
            except OSError:
                continue
            if int(fields[1]) == self.pid and fields[0] != "Z":
                found[f"{command} #{len(found)}"] = int(directory.name)
        return found

    def child(self, part: str) -> int:
        return next(pid for command, pid in self.children().items() if part in command)


@asynccontextmanager
async def running(directory: Path, *options: str) -> AsyncIterator[Up]:
    up = Up(directory, *options)
    up.start()
    try:
        yield await up.ready(60)
    finally:
        up.stop(60)


def gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except FileNotFoundError:
        return True


async def say(up: Up) -> tuple[str, str]:
    """Stream one completion: its id and its text."""
    request_id, text = "", ""
    async with up.client() as client:
        messages = [{"role": "user", "content": "Who are you?"}]
        stream = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)  # type: ignore[call-overload]
        async for chunk in stream:
            request_id = chunk.id
            text += chunk.choices[0].delta.content or ""
    return request_id, text


async def test_one_command_serves_the_openai_sdk_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as up:
        _, text = await say(up)
        assert "script" in text
        assert "a demo that recites a script, no LLM" in up.output()
        children = up.children()
        assert len(children) == 4
        up.signal(signal.SIGINT)
        assert await up.wait(30) == 0, up.tail()
    assert all(map(gone, children.values())), up.tail()
    assert not any(name.startswith("railstream-") for name in os.listdir(tmp_path))
    socket.create_server(("127.0.0.1", up.port)).close()


async def test_the_printed_python_example_runs_as_it_stands(tmp_path: Path) -> None:
    async with running(tmp_path) as up:
        example = re.search(r"^from openai.*?^    print[^\n]*", up.output(), re.DOTALL | re.MULTILINE)
        assert example is not None
        program = Process("example", [sys.executable, "-c", example[0]], directory=tmp_path)
        assert await program.start().wait() == 0, program.tail()
        assert "script" in program.output()


async def test_a_worker_that_is_killed_comes_back_and_so_does_redis(tmp_path: Path) -> None:
    async with running(tmp_path, "--workers", "1") as up:
        os.kill(up.child("railstream.cli worker"), signal.SIGKILL)
        os.kill(up.child("redis-server"), signal.SIGKILL)
        await up.logged("worker-1 was ended by SIGKILL; it is started again")
        await up.logged("redis was ended by SIGKILL; it is started again")
        await until(lambda: len(up.children()) == 3, what="three children again")
        await until(lambda: answers(f"http://127.0.0.1:{up.port}/readyz"), timeout=30)
        assert "script" in (await say(up))[1]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties the children's life to their parent's")
async def test_a_supervisor_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    async with running(tmp_path) as up:
        children = up.children()
        await up.kill()
        await until(lambda: all(map(gone, children.values())), what="all children are gone")


async def test_a_data_directory_keeps_streams_from_one_run_to_the_next(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    async with running(tmp_path / "first", "--data-dir", data) as up:
        request_id, text = await say(up)
        assert await up.terminate() == 0, up.tail()
    async with running(tmp_path / "second", "--data-dir", data) as up, up.client() as client:
        again = await client.get(f"/chat/completions/{request_id}", cast_to=object)
        assert isinstance(again, dict)
        assert again["choices"][0]["message"]["content"] == text


async def test_a_redis_that_is_given_is_used(tmp_path: Path, redis_url: str) -> None:
    async with running(tmp_path, "--redis-url", redis_url) as up:
        assert len(up.children()) == 3
        assert "script" in (await say(up))[1]


def announced(directory: Path) -> list[Path]:
    """The files that tell where the Redis of a stack is."""
    return list(directory.glob("railstream-*/up-*.redis-url"))


def read_private(file: Path) -> str:
    """The text of a file that nobody but its owner may read."""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    return file.read_text("utf-8").strip()


async def test_its_own_redis_is_found_by_the_commands_and_by_the_printed_line(tmp_path: Path) -> None:
    here = {"TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": ""}
    async with running(tmp_path) as up:
        request_id, text = await say(up)
        listed = (await railstream("ps", "--all", "--json", **here)).json
        assert [one["id"] for one in listed["requests"]] == [request_id]
        assert (await railstream("show", request_id, "--content", "--json", **here)).json["texts"] == {"0": text}
        assert len((await railstream("workers", "--json", **here)).json["workers"]) == 2
        assert (await railstream("usage", "--json", **here)).json["rows"][0]["calls"] == 1
        assert (await railstream("dead", "--json", **here)).json == []
        printed = re.search(r'redis-cli -u "\$\(cat (\S+)\)"', up.output())
        assert printed is not None
        assert [printed[1]] == [str(file) for file in announced(tmp_path)]
        async with connect(read_private(Path(printed[1])), 5, name="test") as redis:
            found: Any = await redis.xread({keys.events(request_id): "0"})
        assert found[0][1][0][1][b"event"] == b"started"
        other = await railstream("ps", "--json", "--redis-url", f"redis://127.0.0.1:{free_port()}", **here)
        assert other.code == 1, "a Redis that is named is not replaced by another one"
    assert announced(tmp_path) == []


async def test_a_file_that_a_killed_stack_left_behind_names_no_redis(tmp_path: Path) -> None:
    here = {"TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": ""}
    async with running(tmp_path) as up:
        await up.kill()
        assert len(announced(tmp_path)) == 1
        default = await railstream("ps", RAILSTREAM_REDIS_TIMEOUT="1", **here)
        assert "redis://127.0.0.1:6379/0" in default.err or default.code == 0
        assert announced(tmp_path) == []


async def test_the_example_configs_start_without_a_single_key(tmp_path: Path) -> None:
    configs = Path(__file__).parents[2] / "deploy" / "configs"
    async with running(tmp_path, "--config", str(configs)) as up:
        assert "Not by config 'openai'" in up.output()
        assert "OPENAI_API_KEY" in up.output()
        assert "\nrailstream-scripted answers" in up.output(), "a config that can answer is the default one"
        assert (await say(up))[1] != ""


async def test_of_several_stacks_one_has_to_be_named(tmp_path: Path) -> None:
    here = {"TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": ""}
    async with running(tmp_path), running(tmp_path):
        await until(lambda: len(announced(tmp_path)) == 2, timeout=60)
        said = await railstream("ps", **here)
        assert said.code == 2
        assert said.err.startswith("railstream: several `railstream up` run here")
        assert said.err.count("--redis-url") == 2


async def test_a_port_in_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    up = Up(tmp_path)
    with socket.create_server(("127.0.0.1", up.port)):
        assert await up.start().wait() == 2
    assert up.output() == (
        f"railstream: port {up.port} of 127.0.0.1 cannot be used (Address already in use); "
        "choose another one with --port\n"
    )
