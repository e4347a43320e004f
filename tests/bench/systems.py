"""What a load is put on: the upstream itself, or Railstream as real processes in front of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
from harness.processes import Gateway, Process, UpstreamProcess, Worker
from harness.redis_server import RedisServer
from harness.stack import write_configs
from railstream.local.redis_server import STREAM_NODES
from railstream.testing import Judge, Script

from bench.load import Target
from bench.processes import Parts

PATTERN = r"\b\d{3}-\d{2}-\d{4}\b"
JUDGE_SECONDS = 0.1
JUDGE_MODEL = "judge"
WINDOW = {"enabled": True, "chunk_size": 50, "context_size": 10, "stream_first": False}

NO_RAIL: dict[str, Any] = {}
REGEX_RAIL: dict[str, Any] = {
    "rails": {
        "config": {"regex_detection": {"output": {"patterns": [PATTERN]}}},
        "output": {"flows": ["regex check output"], "streaming": WINDOW},
    }
}
JUDGE_RAIL: dict[str, Any] = {
    "rails": {"output": {"flows": ["self check output"], "streaming": WINDOW}},
    "prompts": [{"task": "self_check_output", "content": "Is this wrong, Yes or No?\n{{ bot_response }}"}],
}
JUDGE_ENTRY = {"type": "self_check_output", "engine": "openai", "model": JUDGE_MODEL}
CONFIGS = {"none": NO_RAIL, "regex": REGEX_RAIL, "judge": JUDGE_RAIL}


class Upstream(Protocol):
    """The testing upstream, wherever it runs on this machine."""

    @property
    def port(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def url(self) -> str: ...


@dataclass(slots=True)
class System:
    """``parts`` are the processes whose cost counts, by name; ``target`` is where a load goes."""

    name: str
    target: Target
    parts: Parts
    upstream: Upstream
    redis: RedisServer | None = None
    details: dict[str, Any] = field(default_factory=dict)


@asynccontextmanager
async def running_upstream(directory: Path) -> AsyncGenerator[UpstreamProcess, None]:
    """The testing upstream as a process of its own; its second model is the judge, which takes its time."""
    judge = Script(judge=Judge(marker="no answer holds this"), delay_first=JUDGE_SECONDS)
    given = f"{JUDGE_MODEL}={msgspec.json.encode(judge).decode()}"
    upstream = UpstreamProcess(directory=directory, options=("--no-bodies", "--model", given))
    try:
        yield await upstream.start().ready()
    finally:
        upstream.stop()


@asynccontextmanager
async def straight(upstream: Upstream) -> AsyncGenerator[System, None]:
    """The load on the upstream itself: what the client and the machine add by themselves."""
    yield System("straight", Target((upstream.port,)), {}, upstream)


@asynccontextmanager
async def railstream(
    upstream: Upstream,
    directory: Path,
    *,
    config: str = "regex",
    gateways: int = 1,
    workers: int = 1,
    concurrency: int = 128,
    extra: Mapping[str, Any] | None = None,
    worker_options: tuple[str, ...] = (),
) -> AsyncGenerator[System, None]:
    """Gateways, workers and a Redis. ``extra``: more configs by id, for requests that name them."""
    chosen = dict(CONFIGS[config])
    if config == "judge":
        chosen["models"] = [_model(type="main", model="testing"), _model(**JUDGE_ENTRY)]
    configs = write_configs(directory / "configs", upstream.url, {config: chosen} | dict(extra or {}))
    with RedisServer(directory / "redis", options=STREAM_NODES) as redis:
        given: dict[str, Any] = {"redis_url": redis.url, "config": configs, "directory": directory}
        quiet = {"RAILSTREAM_LOG_LEVEL": "warning"}
        served = [
            Worker(f"worker-{n}", **given, concurrency=concurrency, options=worker_options, environment=quiet)
            for n in range(workers)
        ]
        options = ("--default-config", config, "--queue-limit", "100000")
        doors = [Gateway(f"gateway-{n}", **given, options=options, environment=quiet) for n in range(gateways)]
        try:
            for process in (*served, *doors):
                process.start()
            for process in (*served, *doors):
                await process.ready(60)
            name = f"railstream, {'no rail' if config == 'none' else config + ' rail'}"
            parts = {"gateway": _pids(doors), "worker": _pids(served), "redis": (redis.pid,)}
            target = Target(tuple(door.port for door in doors))
            yield System(name, target, parts, upstream, redis)
        finally:
            for process in (*doors, *served):
                process.stop()


def _pids(processes: list[Any]) -> tuple[int, ...]:
    return tuple(process.pid for process in processes if isinstance(process, Process))


def _model(**given: Any) -> dict[str, Any]:
    return {"engine": "openai"} | given
