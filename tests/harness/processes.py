"""Programs of the product as real processes: started, made ready, frozen, killed, and their logs kept.

A process gets a clean environment: no ``RAILSTREAM_…``, ``OTEL_…`` or proxy variable of whoever runs the tests.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from harness.waiting import answers, free_port, until

DROPPED = ("RAILSTREAM_", "OTEL_", "OPENAI_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "COVERAGE_")
TAIL = 60
"""Log lines that a failure report shows."""


def clean_environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(DROPPED)}
    return kept | {"PYTHONUNBUFFERED": "1", "OPENAI_API_KEY": "testing", "NO_PROXY": "127.0.0.1"} | dict(given or {})


class Process:
    """One program. ``log`` collects the output of every start; ``started`` lists all that were made, for reports."""

    started: ClassVar[list[Process]] = []

    def __init__(
        self, name: str, command: Sequence[str], *, directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = list(command)
        self.directory = directory
        self.log = directory / f"{name}.log"
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        Process.started.append(self)

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def start(self) -> Self:
        assert not self.running, f"{self.name} runs already"
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=clean_environment(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    async def ready(self, timeout: float = 30) -> Self:
        """Wait until it says that it is ready; how is for each program to know."""

        async def asked() -> bool:
            if not self.running:
                raise RuntimeError(f"{self.name} ended with {self.exit_code} before it was ready:\n{self.tail()}")
            return await self.is_ready()

        try:
            await until(asked, timeout=timeout, what=f"{self.name} is ready", interval=0.05)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.tail()}") from None
        return self

    async def is_ready(self) -> bool:
        return self.running

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} was not started"
        self._process.send_signal(number)

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and does nothing."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    async def kill(self) -> int:
        """``kill -9``."""
        self.signal(signal.SIGKILL)
        return await self.wait()

    async def terminate(self, timeout: float = 30) -> int:
        """SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return await self.wait(timeout)

    async def wait(self, timeout: float = 30) -> int:
        """Its exit code, once it has ended by itself."""
        process = self._process
        assert process is not None, f"{self.name} was not started"
        try:
            return await asyncio.to_thread(process.wait, timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} has not ended within {timeout} s:\n{self.tail()}") from None

    def stop(self, timeout: float = 5) -> None:
        """End it, gently and then not; for teardown, where a loop may be gone."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout)

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = TAIL) -> str:
        return "\n".join(self.output().splitlines()[-lines:])

    async def logged(self, wanted: str, timeout: float = 10) -> None:
        """Wait until the log holds a text."""
        await until(lambda: wanted in self.output(), timeout=timeout, what=f"{self.name} logs {wanted!r}")

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Program(Process):
    """A command of ``railstream`` that serves HTTP on ``port``."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        port: int,
        directory: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        command = [sys.executable, "-m", "railstream.cli", *arguments]
        super().__init__(name, command, directory=directory, environment=environment)
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def is_ready(self) -> bool:
        return await answers(f"{self.url}/readyz")


class Gateway(Program):
    """``railstream gateway``. It is ready once it has seen a worker; ``alive`` waits for less."""

    def __init__(
        self,
        name: str,
        *,
        redis_url: str,
        config: Path | None,
        directory: Path,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        port = free_port()
        arguments = ["gateway", "--port", str(port), "--redis-url", redis_url, *_config(config), *options]
        super().__init__(name, arguments, port=port, directory=directory, environment=environment)

    @property
    def api(self) -> str:
        """The ``base_url`` of an OpenAI client."""
        return f"{self.url}/v1"

    async def alive(self, timeout: float = 30) -> None:
        await until(lambda: answers(f"{self.url}/livez"), timeout=timeout, what=f"{self.name} is alive")


class Worker(Program):
    """``railstream worker``."""

    def __init__(
        self,
        name: str,
        *,
        redis_url: str,
        config: Path | None,
        directory: Path,
        concurrency: int = 64,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        port = free_port()
        arguments = ["worker", "--redis-url", redis_url, "--concurrency", str(concurrency), "--http-port", str(port)]
        arguments += [*_config(config), *options]
        super().__init__(name, arguments, port=port, directory=directory, environment=environment)


class UpstreamProcess(Process):
    """``python -m railstream.testing`` beside the test, for loads that must not share its loop."""

    def __init__(self, name: str = "upstream", *, directory: Path, options: Sequence[str] = ()) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "railstream.testing", "--port", str(self.port), *options]
        super().__init__(name, command, directory=directory)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def is_ready(self) -> bool:
        return await answers(f"{self.url}/models")


def _config(config: Path | None) -> list[str]:
    return [] if config is None else ["--config", str(config)]
