"""The supervisor of the local stack with small real processes: restarts, refusals, order, force, and no orphans."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from harness.waiting import until
from railstream.local.child import Child
from railstream.local.supervisor import StackFailed, StackStopped, Supervisor

SERVES = "import signal; print('serving', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SERVES
NAMES = ("up", "redis", "gateway", "worker-1")


def child(name: str, script: str, grace: float = 10) -> Child:
    return Child(name, [sys.executable, "-c", script], dict(os.environ), grace=grace)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")


def serving(output: io.StringIO, times: int = 1) -> Callable[[], bool]:
    return lambda: output.getvalue().count("serving") >= times


@asynccontextmanager
async def supervised(output: io.StringIO, *groups: Child) -> AsyncIterator[Supervisor]:
    async with Supervisor(output, NAMES) as supervisor:
        for one in groups:
            supervisor.start(one)
        yield supervisor


async def never() -> str:
    return "it never is"


async def test_a_child_that_dies_is_started_again() -> None:
    output = io.StringIO()
    worker = child("worker-1", SERVES)
    async with supervised(output, worker):
        await until(serving(output))
        first = worker.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(serving(output, 2))
        assert worker.pid not in (None, first)
    assert "worker-1 was ended by SIGKILL; it is started again in 0.5 s" in output.getvalue()


async def test_children_are_stopped_in_reverse_order_and_none_is_left() -> None:
    output = io.StringIO()
    says_bye = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit()));" + SERVES
    children = [child(name, says_bye) for name in ("redis", "worker-1", "gateway")]
    async with supervised(output, *children):
        await until(serving(output, 3))
        pids = [one.pid for one in children if one.pid]
    goodbyes = [line.split()[0] for line in output.getvalue().splitlines() if line.endswith("bye")]
    assert goodbyes == ["gateway", "worker-1", "redis"]
    assert len(pids) == 3
    assert not any(map(alive, pids))


@pytest.mark.parametrize(("code", "deaths"), [(2, 1), (1, 3)])
async def test_a_child_that_cannot_start_ends_the_stack(code: int, deaths: int) -> None:
    output = io.StringIO()
    with pytest.raises(StackFailed, match=f"gateway exited with code {code}") as failed:
        async with supervised(output, child("gateway", f"print('begin'); raise SystemExit({code})")) as supervisor:
            await supervisor.until("the gateway", never)
    assert failed.value.code == code
    assert output.getvalue().count("begin") == deaths


async def test_ctrl_c_before_it_is_ready_stops_it() -> None:
    output = io.StringIO()
    async with supervised(output, child("worker-1", SERVES)) as supervisor:
        await until(serving(output))
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(StackStopped):
            await supervisor.until("the gateway", never)


async def test_a_second_ctrl_c_does_not_wait_for_a_child_that_ignores_the_first() -> None:
    output = io.StringIO()
    stubborn = child("worker-1", STUBBORN, grace=60)
    async with asyncio.timeout(10):
        async with supervised(output, stubborn) as supervisor:
            await until(serving(output))
            os.kill(os.getpid(), signal.SIGINT)
            await supervisor.serve()
            asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
    assert "stopping at once" in output.getvalue()


async def test_a_child_that_outstays_its_grace_is_killed() -> None:
    output = io.StringIO()
    async with supervised(output, child("worker-1", STUBBORN, grace=0.2)):
        await until(serving(output))
    assert "worker-1 did not stop in time and was killed" in output.getvalue()


async def test_what_a_child_leaves_behind_ends_with_it() -> None:
    output = io.StringIO()
    leaves = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print('left', p.pid, flush=True)"
    worker = child("worker-1", leaves)
    lines: list[str] = []
    assert await worker.run(lines.append) == 0
    left = int(lines[0].split()[1])
    await until(lambda: not alive(left))
    assert output.getvalue() == ""


async def test_a_line_of_any_length_is_heard() -> None:
    lines: list[str] = []
    await child("worker-1", "print('x' * 200_000); print('y', end='')").run(lines.append)
    assert "".join(lines) == "x" * 200_000 + "y"


async def test_an_output_that_nobody_reads_any_more_stops_the_stack() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    async with supervised(Closed(), child("worker-1", SERVES)) as supervisor:
        async with asyncio.timeout(10):
            await supervisor.serve()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties the children's life to their parent's")
async def test_no_child_outlives_a_supervisor_that_is_killed() -> None:
    script = f"""
import asyncio, os, sys
from railstream.local.child import Child
asyncio.run(Child("worker-1", [sys.executable, "-c", {("import os; print(os.getpid(), flush=True);" + SERVES)!r}],
                  os.environ, grace=1).run(lambda line: print(line, flush=True)))
"""
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    pid = int(await supervisor.stdout.readline())
    await supervisor.stdout.readline()
    assert alive(pid)
    supervisor.kill()
    await supervisor.wait()
    await until(lambda: not alive(pid))
