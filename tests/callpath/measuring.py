"""A gateway and a worker of a checkout under a recorder, some requests, and what was called between two moments.

Both processes do other things beside (claims, heartbeats, timers). A request is made several times, and counted is
what was called in each of them: so what comes by chance in between is left out.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from harness.processes import Process
from harness.redis_server import RedisServer
from harness.sse import opened
from harness.waiting import answers, free_port
from railstream.testing import Script, Upstream

RECORDER = Path(__file__).with_name("recorder.py")
PAUSE = 0.25
"""Seconds between two chunks of the provider: everything that one causes is over before the next."""
WORDS = 8
Window = tuple[int, int]


class Recorded(Process):
    """One process of the checkout, under the recorder."""

    def __init__(self, name: str, root: Path, directory: Path, arguments: Sequence[str], port: int) -> None:
        self.record = directory / f"{name}.json"
        self.port = port
        paths = ":".join(str(root / side) for side in ("shared", "worker", "gateway"))
        command = [sys.executable, str(RECORDER), str(self.record), *arguments]
        super().__init__(name, command, directory=directory, environment={"PYTHONPATH": paths})

    async def is_ready(self) -> bool:
        return await answers(f"http://127.0.0.1:{self.port}/readyz")


@dataclass(frozen=True, slots=True)
class CallPath:
    """What was called in each repetition: functions with their files, the fewest calls, the least deep stack."""

    functions: frozenset[tuple[str, str]]
    calls: int
    depth: int

    @property
    def files(self) -> int:
        return len({file for file, _ in self.functions})


@dataclass(frozen=True, slots=True)
class Measured:
    request: dict[str, CallPath]
    """By process: from the request to its second frame."""
    chunk: dict[str, CallPath]


async def measure(root: Path, directory: Path, *, requests: int = 8) -> Measured:
    with RedisServer(directory / "redis") as redis:
        async with Upstream(Script(words=WORDS, rate=1 / PAUSE, delay_first=PAUSE)) as upstream:
            config = _config(directory / "configs", upstream.url)
            processes = _processes(root, directory, config, redis.url)
            try:
                await asyncio.gather(*(process.start().ready(60) for process in processes))
                seen = [await _request(processes[0].port) for _ in range(requests + 2)][2:]  # the first ones import
                for process in processes:
                    await process.terminate()
            finally:
                for process in processes:
                    process.stop()
    asked = [first for first, _ in seen]
    chunks = [window for _, windows in seen for window in windows]
    records = {process.name: json.loads(process.record.read_text(encoding="utf-8")) for process in processes}
    return Measured(
        {name: _within(record, asked) for name, record in records.items()},
        {name: _within(record, chunks) for name, record in records.items()},
    )


def _config(directory: Path, upstream: str) -> Path:
    model = {"type": "main", "engine": "openai", "model": "testing"}
    parameters = {"base_url": upstream, "api_key": "testing"}
    rails = {
        "output": {"flows": ["regex check output"], "streaming": {"enabled": True}},
        "config": {"regex_detection": {"output": {"patterns": ["sk-[A-Za-z0-9]{20,}"]}}},
    }
    (directory / "main").mkdir(parents=True)
    content = {"models": [model | {"parameters": parameters}], "rails": rails}
    (directory / "main/config.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return directory


def _processes(root: Path, directory: Path, config: Path, redis_url: str) -> list[Recorded]:
    ports = free_port(), free_port()
    shared = ["--redis-url", redis_url, "--config", str(config)]
    gateway = Recorded("gateway", root, directory, ["gateway", *shared, "--port", str(ports[0])], ports[0])
    worker = Recorded("worker", root, directory, ["worker", *shared, "--http-port", str(ports[1])], ports[1])
    return [gateway, worker]


async def _request(port: int) -> tuple[Window, list[Window]]:
    """One streamed answer: from the request to a moment after its second frame, and each later chunk alone."""
    body = {"model": "testing", "messages": [{"role": "user", "content": "Say something."}], "stream": True}
    began = time.monotonic_ns()
    half = int(PAUSE * 1e9 / 2)
    async with opened(f"http://127.0.0.1:{port}/v1/chat/completions", body=body) as stream:
        arrived: list[int] = []
        while len(arrived) < WORDS:
            await stream.read(frames=len(stream.frames) + 1)
            arrived += [time.monotonic_ns()] * (len(stream.frames) - len(arrived))
        await stream.read()
    later = [at for at in arrived[3:] if at - arrived[1] > half]
    return (began, arrived[1] + half // 2), [(at - half, at + half // 2) for at in later]


def _within(record: Any, windows: Sequence[Window]) -> CallPath:
    functions = [tuple(function) for function in record["functions"]]
    seen = [[call for call in record["calls"] if start <= call[0] <= end] for start, end in windows]
    common = set.intersection(*({number for _, number, _ in calls} for calls in seen))
    counted = [[call for call in calls if call[1] in common] for calls in seen]
    return CallPath(
        frozenset(functions[number] for number in common),
        min(len(calls) for calls in counted),
        min(max((depth for _, _, depth in calls), default=0) for calls in counted),
    )
