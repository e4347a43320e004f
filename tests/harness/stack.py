"""A whole Railstream of real processes in front of a testing upstream: gateways, workers, and a Redis that is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from openai import AsyncOpenAI
from railstream.testing import Script, Upstream

from harness.processes import Gateway, Process, Worker
from harness.sse import Frame, Stream, fetch, opened

MODEL = "testing"
Config = Mapping[str, Any]


class Cut(NamedTuple):
    """Where a client's connection breaks: after so many frames or bytes of a body; nowhere if neither is given."""

    frames: int | None = None
    size: int | None = None


def model(upstream_url: str, **given: Any) -> dict[str, Any]:
    """A main model of a rails config, served by the upstream."""
    parameters = {"base_url": upstream_url, "api_key": "testing"}
    return {"type": "main", "engine": "openai", "model": MODEL, "parameters": parameters} | given


def write_configs(directory: Path, upstream_url: str, configs: Mapping[str, Config]) -> Path:
    """Config directories by id. Models that name no ``base_url`` get the upstream's; no models at all, the main one."""
    for id, config in configs.items():
        models = [dict(entry) for entry in config.get("models", [model(upstream_url)])]
        for entry in models:
            entry["parameters"] = {"base_url": upstream_url, "api_key": "testing"} | entry.get("parameters", {})
        target = directory / id
        target.mkdir(parents=True, exist_ok=True)
        written = {key: value for key, value in config.items() if key != "actions.py"} | {"models": models}
        (target / "config.yml").write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
        if "actions.py" in config:
            (target / "actions.py").write_text(config["actions.py"], encoding="utf-8")
    return directory


def surviving(configs: Mapping[str, Config]) -> dict[str, Config]:
    """The configs, each with answers that outlive their worker: they are generated again, and compared."""
    default = {"on_worker_loss": "regenerate"}
    return {id: {**config, "railstream": default | config.get("railstream", {})} for id, config in configs.items()}


class Stack:
    """``redis_url`` is what the processes are given; a proxy may stand before the Redis that the test asks."""

    def __init__(self, directory: Path, redis_url: str, upstream: Upstream, config: Path) -> None:
        self.directory = directory
        self.redis_url = redis_url
        self.upstream = upstream
        self.config = config
        self.gateways: list[Gateway] = []
        self.workers: list[Worker] = []

    @property
    def processes(self) -> list[Process]:
        return [*self.gateways, *self.workers]

    @property
    def url(self) -> str:
        """The first gateway's address, without ``/v1``."""
        return self.gateways[0].url

    def client(self, gateway: int = 0, **options: Any) -> AsyncOpenAI:
        """The ``openai`` SDK on a gateway; use it in an ``async with``."""
        given: dict[str, Any] = {"api_key": "testing", "max_retries": 0, "timeout": 30} | options
        return AsyncOpenAI(base_url=self.gateways[gateway].api, **given)

    def add_gateway(self, *options: str, redis_url: str | None = None, **environment: str) -> Gateway:
        """Start one more gateway; wait for ``ready()`` or ``alive()``."""
        gateway = Gateway(
            f"gateway-{len(self.gateways) + 1}",
            redis_url=redis_url or self.redis_url,
            config=self.config,
            directory=self.directory,
            options=options,
            environment=environment,
        )
        self.gateways.append(gateway.start())
        return gateway

    def add_worker(
        self, *options: str, concurrency: int = 64, redis_url: str | None = None, **environment: str
    ) -> Worker:
        worker = Worker(
            f"worker-{len(self.workers) + 1}",
            redis_url=redis_url or self.redis_url,
            config=self.config,
            directory=self.directory,
            concurrency=concurrency,
            options=options,
            environment=environment,
        )
        self.workers.append(worker.start())
        return worker

    async def ready(self, timeout: float = 60) -> None:
        async with asyncio.TaskGroup() as group:
            for process in self.processes:
                group.create_task(process.ready(timeout))

    def ask(self, content: str = "Say something.", gateway: int = 0, **given: Any) -> Any:
        """A streamed chat completion as an open raw `Stream`: ``async with stack.ask(…) as stream``."""
        headers = given.pop("headers", None)
        body = {"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": True} | given
        return opened(f"{self.gateways[gateway].api}/chat/completions", body=body, headers=headers)

    def resume(self, request_id: str, after: str | None = None, gateway: int = 0, **given: Any) -> Any:
        """The same stream again, after an event id, from any gateway."""
        return opened(f"{self.gateways[gateway].api}/chat/completions/{request_id}?stream=true", after=after, **given)

    async def read_with_cuts(self, content: str, cuts: Sequence[Cut], **given: Any) -> tuple[str, list[Frame]]:
        """One stream, read through cut after cut and resumed on the next gateway each time: its id, all its frames."""
        connection, request_id, frames = self.ask(content, **given), "", list[Frame]()
        for number, cut in enumerate([*cuts, Cut()], start=1):
            async with connection as stream:
                await stream.read(frames=cut.frames, count=cut.size)
                request_id = request_id or stream.request_id
                frames += stream.frames
                stream.reset()
            if frames and frames[-1].done:
                break
            after = next((frame.id for frame in reversed(frames) if frame.id is not None), None)
            connection = self.resume(request_id, after, number % len(self.gateways))
        return request_id, frames

    async def cancel(self, request_id: str, gateway: int = 0) -> tuple[int, Any]:
        return await fetch(f"{self.gateways[gateway].api}/chat/completions/{request_id}/cancel", body={})

    async def result(self, request_id: str, gateway: int = 0) -> tuple[int, Any]:
        """Status and body of the finished completion, or of its state."""
        return await fetch(f"{self.gateways[gateway].api}/chat/completions/{request_id}")


@asynccontextmanager
async def running_stack(
    directory: Path,
    redis_url: str,
    *,
    gateways: int = 1,
    workers: int = 1,
    concurrency: int = 64,
    script: Script | None = None,
    models: Mapping[str, Script] | None = None,
    configs: Mapping[str, Config] | None = None,
    upstream: Upstream | None = None,
    gateway_options: Sequence[str] = (),
    worker_options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> AsyncGenerator[Stack, None]:
    """Bring it up, ready, and tear it down. An ``upstream`` that is given runs already and is left running."""
    async with upstream_or(upstream, Upstream(script, models=models)) as serving:
        config = write_configs(directory / "configs", serving.url, configs or {"main": {}})
        stack = Stack(directory, redis_url, serving, config)
        try:
            for _ in range(workers):
                stack.add_worker(*worker_options, concurrency=concurrency, **(environment or {}))
            for _ in range(gateways):
                stack.add_gateway(*gateway_options, **(environment or {}))
            await stack.ready()
            yield stack
        finally:
            await asyncio.gather(*(asyncio.to_thread(process.stop) for process in stack.processes))


@asynccontextmanager
async def upstream_or(given: Upstream | None, own: Upstream) -> AsyncGenerator[Upstream, None]:
    if given is not None:
        yield given
        return
    async with own:
        yield own


__all__ = ["MODEL", "Cut", "Stack", "Stream", "model", "running_stack", "write_configs"]
