"""Gateways under test, in this process on free ports, with a hand-driven worker on a real Redis behind them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml
from faststream.redis import BinaryMessageFormatV1
from harness.sse import Stream, opened
from openai import AsyncOpenAI
from railstream import events, job, keys
from railstream.config import ConfigSet
from railstream.job import Job
from railstream.settings import GatewaySettings
from railstream.telemetry import Telemetry
from railstream_gateway.app import create_app
from railstream_gateway.gateway import Gateway
from railstream_gateway.run import Server, create_server
from redis.asyncio import Redis

MODEL = {"type": "main", "engine": "openai", "model": "testing", "parameters": {"base_url": "http://127.0.0.1:1/v1"}}
REGEX = {"regex_detection": {"output": {"patterns": ["secret"]}}}
CONFIGS: Mapping[str, Any] = {
    "plain": {"models": [MODEL]},
    "other": {"models": [MODEL | {"model": "vendor/other-1"}]},
    "whole": {
        "models": [MODEL | {"model": "whole"}],
        "rails": {"output": {"flows": ["regex check output"]}, "config": REGEX},
    },
    "extra": {"rails": {"output": {"flows": ["regex check output"], "streaming": {"enabled": True}}, "config": REGEX}},
    "streamed": {
        "models": [MODEL | {"model": "streamed"}],
        "rails": {"output": {"flows": ["regex check output"], "streaming": {"enabled": True}}, "config": REGEX},
    },
}
PATIENCE = 0.05
"""Seconds that a stream's status line waits for its first event."""
QUESTION = {"model": "testing", "messages": [{"role": "user", "content": "Say something."}]}


class Writer:
    """Writes one request's stream as a worker does."""

    def __init__(self, redis: Redis, work: Job, entry: bytes, headers: dict[str, Any]) -> None:
        self.redis = redis
        self.job = work
        self.id = work.id
        self.entry = entry
        self.headers = headers
        self.attempt = 1
        self.seq = 0

    async def write(
        self,
        name: bytes,
        data: bytes,
        choice: bytes = b"",
        *,
        id: str = "",
        stored: bool = True,
        published: bool = True,
    ) -> str:
        """One entry, under the next id unless one is given."""
        if not id:
            id, self.seq = f"{self.attempt}-{self.seq}", self.seq + 1
        fields: dict[Any, Any] = {"event": name, "data": data} | ({"choice": choice} if choice else {})
        pipeline = self.redis.pipeline(transaction=False)
        if stored:
            pipeline.xadd(keys.events(self.id), fields, id=id)
        if published:
            pipeline.publish(keys.live(self.id), b"%b %b %d\n%b%b" % (id.encode(), name, len(choice), choice, data))
        await pipeline.execute()
        return id

    async def start(self) -> Writer:
        started = events.Started(
            id=self.id,
            model=self.job.model,
            created=int(self.job.created),
            configs=self.job.configs,
            stream=self.job.stream,
            include_usage=self.job.include_usage,
        )
        await self.redis.hset(keys.request(self.id), "status", "running")
        await self.write(*events.encode(started))
        return self

    async def say(self, *texts: str) -> Writer:
        for text in texts:
            await self.write(events.CHUNK, json.dumps({"content": text}).encode())
        return self

    async def end(self, payload: events.Payload) -> None:
        """The terminal event and the status in one step, as the worker's script does."""
        name, data = events.encode(payload)
        id, self.seq = f"{self.attempt}-{self.seq}", self.seq + 1
        pipeline = self.redis.pipeline(transaction=True)
        pipeline.xadd(keys.events(self.id), {"event": name, "data": data}, id=id)
        pipeline.publish(keys.live(self.id), b"%b %b 0\n%b" % (id.encode(), name, data))
        pipeline.hset(keys.request(self.id), "status", name)
        await pipeline.execute()

    async def finish(self, *reasons: str, usage: dict[str, Any] | None = None) -> None:
        await self.end(events.Finished(finish_reasons=reasons or ("stop",), usage=usage))

    async def take_over(self, after: str) -> Writer:
        self.attempt, self.seq = self.attempt + 1, 0
        await self.write(*events.encode(events.Restarted(self.attempt, after, "lease_expired")))
        return self

    async def status(self) -> str:
        status = await self.redis.hget(keys.request(self.id), "status")
        return status.decode() if isinstance(status, bytes) else ""


class Served:
    """One gateway that serves."""

    def __init__(self, server: Server, gateway: Gateway) -> None:
        self.server = server
        self.gateway = gateway
        self.port: int = server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"{self.url}/v1"

    @property
    def completions(self) -> str:
        return f"{self.api}/chat/completions"

    def ask(self, *, headers: Mapping[str, str] | None = None, receive_buffer: int | None = None, **given: Any) -> Any:
        """A streamed completion, as an open raw `Stream`."""
        return opened(
            self.completions, body=QUESTION | {"stream": True} | given, headers=headers, receive_buffer=receive_buffer
        )

    def resume(self, request_id: str, after: str | None = None, **given: Any) -> Any:
        return opened(f"{self.completions}/{request_id}?stream=true", after=after, **given)

    def client(self, **options: Any) -> AsyncOpenAI:
        given: dict[str, Any] = {"api_key": "testing", "max_retries": 0, "timeout": 30} | options
        return AsyncOpenAI(base_url=self.api, **given)


class Rig:
    def __init__(self, redis: Redis, redis_url: str, configs: ConfigSet, stack: AsyncExitStack) -> None:
        self.redis = redis
        self.redis_url = redis_url
        self.configs = configs
        self.http = httpx2.AsyncClient(timeout=30, trust_env=False)
        self._stack = stack
        self._seen = "0-0"

    async def serve(self, *, telemetry: Telemetry | None = None, **settings: Any) -> Served:
        """One more gateway on this Redis.

        Its status lines wait for the first event, which a test writes once it has the open stream: they wait briefly.
        """
        given = GatewaySettings(**{"redis_url": self.redis_url, "port": 0, "keep_alive": PATIENCE} | settings)
        return await self._stack.enter_async_context(serving(given, self.configs, telemetry))

    async def next_job(self) -> Writer:
        """The next job of the queue, once it is there."""
        answer: Any = await self.redis.xread({keys.jobs(): self._seen}, count=1, block=3000)
        assert answer, "no job was queued"
        entry, fields = answer[0][1][0]
        self._seen = entry.decode()
        body, headers = BinaryMessageFormatV1.parse(fields[b"__data__"])
        return Writer(self.redis, job.decode(body), entry, headers)

    async def queued(self) -> int:
        return int(await self.redis.xlen(keys.jobs()))


class Cancels:
    """What workers hear on the cancel channel."""

    def __init__(self, redis: Redis) -> None:
        self._pubsub = redis.pubsub()

    async def __aenter__(self) -> Cancels:
        await self._pubsub.subscribe(keys.CANCEL_CHANNEL)
        confirmed = await self._pubsub.get_message(timeout=3)
        assert confirmed is not None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    async def next(self, timeout: float = 3) -> str | None:
        message = await self._pubsub.get_message(timeout=timeout)
        return None if message is None else str(message["data"].decode())


async def readers_are(rig: Rig, writer: Writer, count: int) -> bool:
    return int(await rig.redis.hget(keys.request(writer.id), "readers") or 0) == count


@asynccontextmanager
async def serving(
    settings: GatewaySettings, configs: ConfigSet, telemetry: Telemetry | None = None
) -> AsyncGenerator[Served, None]:
    app = create_app(settings, configs=configs, telemetry=telemetry)
    server = create_server(app, settings)
    up = asyncio.Event()

    startup = server.startup

    async def tell(sockets: Any = None) -> None:
        await startup(sockets)
        up.set()

    server.startup = tell  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        await up.wait()
    try:
        yield Served(server, app.state.gateway)
    finally:
        app.state.gateway.open_streams.close()
        server.should_exit = True
        await task


def write_configs(directory: Path) -> ConfigSet:
    for id, config in CONFIGS.items():
        (directory / id).mkdir(parents=True)
        (directory / id / "config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return ConfigSet.load(directory, default="plain")


@asynccontextmanager
async def rig_on(redis: Redis, redis_url: str, directory: Path) -> AsyncGenerator[Rig, None]:
    async with AsyncExitStack() as stack:
        rig = Rig(redis, redis_url, write_configs(directory / "configs"), stack)
        async with rig.http:
            yield rig


__all__ = ["QUESTION", "Cancels", "Rig", "Served", "Stream", "Writer", "readers_are", "rig_on"]
