"""`railstream chat` on a terminal and against a real stack: Ctrl-C stops the answer everywhere, and not the program."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import yaml
from harness.processes import clean_environment
from harness.stack import Stack
from railstream.testing import Script, Upstream, directive

StartStack = Callable[..., Awaitable[Stack]]
TERMS = {
    "config": {"terms": {"output": {"terms": ["forbidden"]}}},
    "output": {"flows": ["terms check output"], "streaming": {"enabled": True}},
}
MODEL = {"type": "main", "engine": "openai", "model": "testing"}
COMMAND = (sys.executable, "-m", "railstream.cli", "chat")


class Terminal:
    """A person at a terminal: types, presses keys, and reads what is shown."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changed = asyncio.Event()
        self.shown = ""

    def read(self) -> None:
        try:
            self.shown += os.read(self._descriptor, 65536).decode(errors="replace")
        except OSError:  # the program has ended
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._changed.set()

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    async def sees(self, text: str, times: int = 1, timeout: float = 30) -> None:
        try:
            async with asyncio.timeout(timeout):
                while self.shown.count(text) < times:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} was not shown {times} times: {self.shown!r}") from None


@asynccontextmanager
async def terminal(
    *options: str, kind: str = "dumb"
) -> AsyncGenerator[tuple[Terminal, asyncio.subprocess.Process], None]:
    ours, theirs = pty.openpty()
    environment = clean_environment({"TERM": kind})
    chat = await asyncio.create_subprocess_exec(
        *COMMAND, *options, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    person = Terminal(ours)
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, person.read)
    try:
        yield person, chat
    finally:
        loop.remove_reader(ours)
        if chat.returncode is None:
            chat.kill()
            await chat.wait()
        os.close(ours)


async def piped(stdin: str, *options: str) -> tuple[int | None, str, str]:
    chat = await asyncio.create_subprocess_exec(
        *COMMAND,
        *options,
        env=clean_environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await chat.communicate(stdin.encode())
    return chat.returncode, out.decode(), err.decode()


async def interrupt_the_prompt(person: Terminal, chat: asyncio.subprocess.Process) -> None:
    """As often as it takes: Python misses a signal between a prompt and the wait for its first key."""
    for _ in range(20):
        chat.send_signal(signal.SIGINT)
        with suppress(AssertionError):
            return await person.sees("/quit leaves", times=2, timeout=1)
    raise AssertionError(f"no hint after Ctrl-C: {person.shown!r}")


async def stop_an_answer(person: Terminal, chat: asyncio.subprocess.Process, upstream: Upstream) -> None:
    await person.sees("> ")
    person.type(f"Count. {directive(words=500, hold=5)}\n")
    await upstream.ledger.wait(tokens=5)
    await upstream.ledger.wait(until=lambda _: upstream.held == 1)
    chat.send_signal(signal.SIGINT)
    await person.sees("stopped")
    (entry,) = await upstream.ledger.wait(ended=1)
    assert entry.outcome == "closed_by_client"
    await person.sees("> ", times=2)
    await interrupt_the_prompt(person, chat)
    person.type(f"Again. {directive(text='All is well.')}\n")
    await person.sees("All is well.\r\n")
    person.type("/quit\n")
    assert await chat.wait() == 0


async def test_ctrl_c_stops_the_answer_in_this_process(upstream: Upstream, tmp_path: Path) -> None:
    model = MODEL | {"parameters": {"base_url": upstream.url, "api_key": "testing"}}
    (tmp_path / "config.yml").write_text(yaml.safe_dump({"models": [model]}), "utf-8")
    async with terminal(str(tmp_path), "--streaming") as (person, chat):
        await stop_an_answer(person, chat, upstream)


async def test_a_terminal_shows_for_how_long_an_answer_is_waited_for(upstream: Upstream, tmp_path: Path) -> None:
    model = MODEL | {"parameters": {"base_url": upstream.url, "api_key": "testing"}}
    (tmp_path / "config.yml").write_text(yaml.safe_dump({"models": [model]}), "utf-8")
    async with terminal(str(tmp_path), kind="xterm") as (person, _):
        await person.sees("> ")
        person.type(f"Count. {directive(words=3, delay_first=2.5)}\n")
        await person.sees("waiting, 1 s")
        await person.sees("waiting, 2 s")
        await upstream.ledger.wait(ended=1)
        await person.sees("> ", times=2)


async def test_ctrl_c_cancels_the_answer_on_the_server(start_stack: StartStack) -> None:
    stack = await start_stack()
    async with terminal("--server-url", stack.url, "--streaming") as (person, chat):
        await stop_an_answer(person, chat, stack.upstream)


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_server_answers_and_blocks(start_stack: StartStack, streaming: bool) -> None:
    stack = await start_stack(configs={"plain": {}, "guarded": {"rails": TERMS}}, script=Script(text="All is well."))
    options = ["--server-url", stack.url, *([] if streaming else ["--no-streaming"])]
    code, out, err = await piped("Hello\n", *options, "--config-id", "plain", "--usage")
    assert (code, out) == (0, "All is well.\n")
    assert err.startswith("general testing: 1 in, 3 out, ")
    stack.upstream.script = Script(text="It is forbidden here.")
    code, out, err = await piped("Hello\n", *options, "--config-id", "guarded")
    assert code == 0
    assert "forbidden" not in out
    assert err == "blocked: Blocked by terms check output rails.\n"
    code, out, err = await piped("Hello\n", *options, "--config-id", "unknown")
    assert (code, out) == (1, "")
    assert err.startswith("failed: ")
    assert "'unknown'" in err
