"""One process of the stack: started in a process group of its own, heard line by line, stopped for certain."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

TETHER = Path(__file__).with_name("end_with_parent.py")
LONGEST_LINE = 64 * 1024  # bytes; a longer line is shown in pieces


class Child:
    """A command that can be started again after it ended.

    Its own process group keeps the terminal's Ctrl-C from it: the supervisor decides who stops when.
    ``grace``: seconds from SIGTERM to SIGKILL. ``orphan_signal``: what it gets if the supervisor dies.
    ``tidy``: what to make of a line of its output; ``None`` drops the line.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        grace: float,
        orphan_signal: signal.Signals = signal.SIGKILL,
        tidy: Callable[[str], str | None] = str,
    ) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._grace = grace
        self._orphan_signal = orphan_signal
        self._tidy = tidy
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()
        self._told_to_stop = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def run(self, heard: Callable[[str], None]) -> int | None:
        """Start it, pass on its lines, return its exit code (``-n``: signal n), or ``None`` if it was told to stop."""
        async with self._starting:
            if self._told_to_stop:
                return None
            process, output = await self._start()
            self._process = process
        listener = asyncio.create_task(_pass_lines(output, self._tidy, heard))
        try:
            code = await process.wait()
        finally:
            self.kill()  # whatever it left in its group, which may hold the output open
            await listener
            self._process = None
        return None if self._told_to_stop else code

    async def stop(self) -> bool:
        """SIGTERM, then SIGKILL when the grace is over. False if it took the SIGKILL. It cannot be run again."""
        async with self._starting:
            self._told_to_stop = True
        process = self._process
        if process is None:
            return True
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._grace)
        except TimeoutError:
            self.kill()
            await process.wait()
            return False
        return True

    def kill(self) -> None:
        """SIGKILL to its whole group, now."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _start(self) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
        tether = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), self._orphan_signal.name]
        # A pipe of our own: with asyncio's, wait() would last until a grandchild lets go of it, too.
        read_end, write_end = os.pipe()
        output = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(output)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(read_end, "rb"))
        try:
            process = await asyncio.create_subprocess_exec(
                *tether,
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(self._environment),
                process_group=0,
            )
        finally:
            os.close(write_end)
        return process, output


async def _pass_lines(
    output: asyncio.StreamReader, tidy: Callable[[str], str | None], heard: Callable[[str], None]
) -> None:
    async for line in _lines(output):
        text = tidy(line.decode(errors="replace").rstrip("\r"))
        if text is not None:
            heard(text)


async def _lines(output: asyncio.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    while block := await output.read(LONGEST_LINE):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > LONGEST_LINE:
            yield rest
            rest = b""
    if rest:
        yield rest
