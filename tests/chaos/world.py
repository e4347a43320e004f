"""A small Railstream of real processes; every connection to Redis and to the upstream goes through a fault proxy."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from harness.processes import Gateway, Process, UpstreamProcess, Worker
from harness.proxy import Proxy
from harness.redis_server import Fsync, RedisServer
from harness.sse import fetch
from harness.stack import MODEL, surviving, write_configs
from harness.waiting import until

LEASE = 1.5
SCAN = 0.3
SETTINGS = {
    "RAILSTREAM_LEASE": str(LEASE),
    "RAILSTREAM_SCAN": str(SCAN),
    "RAILSTREAM_REDIS_TIMEOUT": "1",
    "RAILSTREAM_DRAIN_TIMEOUT": "2",
    "RAILSTREAM_KEEP_ALIVE": "1",
    "RAILSTREAM_MAX_DELIVERIES": "50",
    "RAILSTREAM_LOG_FORMAT": "text",
}
"""A chaos run kills one job more often than any production: what it may survive is not what it is about here."""
CONTINUING = "model-that-continues"
"""Config of a model that goes on with a trailing assistant message; the models of all others answer it instead."""
KEEPING = "provider-that-keeps-runs"
"""Config of a model whose provider keeps the run of an answer: a worker that takes over reads the same run."""
_KEEPS_RUNS = {"type": "main", "engine": "openai", "model": MODEL, "railstream": {"wire": "responses"}}
CONFIGS: Mapping[str, Any] = {
    "main": {},
    CONTINUING: {"railstream": {"on_worker_loss": "continue"}},
    KEEPING: {"models": [_KEEPS_RUNS]},
}
WORKER_ONLY = ("RAILSTREAM_LEASE", "RAILSTREAM_SCAN", "RAILSTREAM_MAX_DELIVERIES")
GATEWAY_ONLY = ("RAILSTREAM_KEEP_ALIVE", "RAILSTREAM_QUEUE_TIMEOUT")


class World:
    """``redis`` is asked directly; each process reaches it through the proxy of its name in ``networks``."""

    def __init__(self, directory: Path, redis: RedisServer, upstream: UpstreamProcess, random_: random.Random) -> None:
        self.directory = directory
        self.redis = redis
        self.replica: RedisServer | None = None
        self.upstream = upstream
        self.random = random_
        self.gateways: list[Gateway] = []
        self.workers: list[Worker] = []
        self.networks: dict[str, Proxy] = {}
        self.config = directory / "configs"
        self.settings = dict(SETTINGS)
        self.size = (0, 0)
        """Workers and gateways that it was brought up with."""
        self._stack = AsyncExitStack()

    @property
    def processes(self) -> Sequence[Gateway | Worker]:
        return [*self.gateways, *self.workers]

    def network(self, process: Process) -> Proxy:
        """Between this process and Redis."""
        return self.networks[process.name]

    @property
    def upstream_network(self) -> Proxy:
        return self.networks["upstream"]

    async def open_network(self, name: str, port: int) -> Proxy:
        proxy = self.networks[name] = await self._stack.enter_async_context(Proxy(port))
        return proxy

    async def add_worker(self, *, concurrency: int = 64, **environment: str) -> Worker:
        name = f"worker-{len(self.workers) + 1}"
        proxy = await self.open_network(name, self.redis.port)
        settings = {k: v for k, v in self.settings.items() if k not in GATEWAY_ONLY}
        worker = Worker(
            name,
            redis_url=proxy.redis_url,
            config=self.config,
            directory=self.directory,
            concurrency=concurrency,
            environment=settings | environment,
        )
        self.workers.append(worker.start())
        return worker

    async def add_gateway(self, **environment: str) -> Gateway:
        name = f"gateway-{len(self.gateways) + 1}"
        proxy = await self.open_network(name, self.redis.port)
        settings = {k: v for k, v in self.settings.items() if k not in WORKER_ONLY}
        gateway = Gateway(
            name,
            redis_url=proxy.redis_url,
            config=self.config,
            directory=self.directory,
            environment=settings | environment,
        )
        self.gateways.append(gateway.start())
        return gateway

    async def ready(self, timeout: float = 60) -> None:
        """A gateway without any worker is never ready, only alive."""
        async with asyncio.TaskGroup() as group:
            for worker in self.workers:
                group.create_task(worker.ready(timeout))
            for gateway in self.gateways:
                group.create_task(gateway.ready(timeout) if self.workers else gateway.alive(timeout))

    def live_gateway(self) -> Gateway | None:
        live = [gateway for gateway in self.gateways if gateway.running]
        return self.random.choice(live) if live else None

    async def ledger(self, request_id: str | None = None) -> list[dict[str, Any]]:
        """The upstream's calls, of one request or all."""
        query = f"?request={request_id}" if request_id else ""
        _, report = await fetch(f"{self.upstream.url}/ledger{query}")
        calls: list[dict[str, Any]] = report["calls"]
        return calls

    async def point_to(self, redis: RedisServer) -> None:
        """The name of Redis means another server from now on."""
        self.redis = redis
        for name, proxy in self.networks.items():
            if name != "upstream":
                proxy.retarget(redis.port)

    @property
    def mendable(self) -> bool:
        """Whether it is still what was asked for, but for what `mend` mends."""
        return self.replica is None and (len(self.workers), len(self.gateways)) == self.size

    async def mend(self, seed: int) -> None:
        """Everything runs and reaches everything, and the next story begins as the first one did."""
        await self.heal()
        for process in self.processes:
            if process.running:
                process.thaw()
            else:
                process.start()
        self.random.seed(seed)
        await self.ready()
        await fetch(f"{self.upstream.url}/ledger", method="DELETE")

    async def heal(self) -> None:
        for proxy in self.networks.values():
            await proxy.heal()

    async def quiet(self, timeout: float = 60) -> None:
        """Nothing waits, nothing runs: the queue is empty, and no claim is open."""

        def idle() -> bool:
            with self.redis.client() as client:
                return bool(client.xlen("railstream:jobs") == 0)

        await until(idle, timeout=timeout, what="the queue is empty", interval=0.1)

    async def close(self) -> None:
        for process in self.processes:
            if process.running:
                process.thaw()
        await asyncio.gather(*(asyncio.to_thread(process.stop) for process in self.processes))
        await self._stack.aclose()
        await asyncio.to_thread(self.upstream.stop)


@asynccontextmanager
async def running_world(
    directory: Path,
    *,
    seed: int = 1,
    gateways: int = 2,
    workers: int = 2,
    aof: Fsync | None = "everysec",
    configs: Mapping[str, Any] | None = None,
    settings: Mapping[str, str] | None = None,
    redis_options: dict[str, str] | None = None,
    upstream_options: Sequence[str] = (),
) -> AsyncGenerator[World, None]:
    """Bring it up, ready; tear it down. ``seed`` decides what the world's own choices are."""
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    upstream = UpstreamProcess(directory=directory, options=("--no-bodies", *upstream_options)).start()
    with RedisServer(directory / "redis", aof=aof, options=redis_options) as redis:
        world = World(directory, redis, upstream, random.Random(seed))
        world.settings |= dict(settings or {})
        try:
            await upstream.ready()
            network = await world.open_network("upstream", upstream.port)
            write_configs(world.config, f"http://127.0.0.1:{network.port}/v1", surviving(configs or CONFIGS))
            for _ in range(workers):
                await world.add_worker()
            for _ in range(gateways):
                await world.add_gateway()
            world.size = (workers, gateways)
            await world.ready()
            yield world
        finally:
            await world.close()
            if world.replica is not None:
                world.replica.stop()
