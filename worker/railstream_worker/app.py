"""The worker's composition root: what a worker is made of, how it starts, and how it drains."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import Any

from faststream import FastStream
from faststream.redis import RedisBroker
from railstream import keys, services, worker_records
from railstream.config import ConfigSet, missing_variables
from railstream.errors import DeliveriesExhaustedError, JobNotUnderstoodError, RailstreamError
from railstream.request_log import RequestLog
from railstream.settings import WorkerSettings
from railstream.telemetry import Telemetry, setup
from railstream.telemetry.prometheus import CONTENT_TYPE
from railstream.topology.connect import connect
from railstream.topology.recovery import FAILURES
from railstream_engine.engines import Engines
from railstream_engine.models import Models
from redis.asyncio import Redis

from railstream_worker.attempts.cancels import Cancels
from railstream_worker.attempts.resources import Tools
from railstream_worker.attempts.usage_drains import UsageDrains
from railstream_worker.pages import Pages
from railstream_worker.queue.group import ensure_group, forget_dead_often
from railstream_worker.queue.leases import Leases
from railstream_worker.queue.pool import Pool
from railstream_worker.queue.quota import RedisQuota
from railstream_worker.queue.reader import JobReader
from railstream_worker.queue.reservation import note_history
from railstream_worker.queue.slots import Slots
from railstream_worker.stream.publisher import Publisher

log = logging.getLogger(__name__)


class StoppedError(Exception):
    """The worker was told to stop before it had begun."""


class Worker(FastStream):
    """FastStream's application, which also tells its own start that it is to stop."""

    def __init__(self, broker: RedisBroker, **given: Any) -> None:
        super().__init__(broker, **given)
        self.stopping = asyncio.Event()

    def exit(self) -> None:
        self.stopping.set()
        super().exit()


def worker_name() -> str:
    """Unique per process: two workers of one name would renew each other's claims."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def _model_names(configs: ConfigSet) -> set[str]:
    """Every configured model, those of rails included: the names that may label a metric."""
    return {model.model for config in configs for model in config.models}


def create_worker(
    settings: WorkerSettings,
    *,
    configs: ConfigSet | None = None,
    redis: Redis | None = None,
    models: Models | None = None,
    telemetry: Telemetry | None = None,
    name: str | None = None,
) -> Worker:
    """A worker, ready to `run`. Nothing is connected before it starts.

    Raises:
        ConfigurationError: the rails configs cannot be loaded, or not one of them has the API keys of its models.
    """
    name = name or worker_name()
    configs = configs or ConfigSet.load(settings.config)
    for problem in missing_variables.of_all(configs):
        log.warning("%s; until then its requests fail", problem)
    redis = redis or connect(settings.redis_url, settings.redis_timeout, name=f"railstream-worker-{name}")
    broker = RedisBroker(
        settings.redis_url,
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        client_name=f"railstream-jobs-{name}",
        apply_types=False,
        logger=None,  # type: ignore[arg-type]  # its lines per job would double ours
        graceful_timeout=1,
    )
    telemetry = telemetry or setup("railstream-worker", instance=name, models=_model_names(configs))
    telemetry.instruments.watch_configs({config.id: config.digest for config in configs})
    slots = Slots(settings.concurrency)
    publisher = Publisher(
        settings.redis_url,
        timeout=settings.redis_timeout,
        flush_interval=settings.flush_interval,
        name=f"railstream-tokens-{name}",
        on_refused=telemetry.instruments.fenced,
    )
    leases = Leases(
        redis,
        pool=settings.pool,
        worker=name,
        lease=settings.lease,
        redis_timeout=settings.redis_timeout,
        slots=settings.concurrency,
        release=version("railstream"),
    )
    drains = UsageDrains(redis, leases.writing, most=settings.concurrency)
    engines = Engines()
    tools = Tools(
        redis=redis,
        publisher=publisher,
        leases=leases,
        drains=drains,
        configs=configs,
        models=models or Models(RedisQuota(redis)),
        engines=engines,
        telemetry=telemetry,
        worker=name,
        pool=settings.pool,
        retention=settings.retention,
        max_deliveries=settings.max_deliveries,
        dead_retention=settings.dead_retention,
        on_config_mismatch=settings.on_config_mismatch,
        request_log=RequestLog(settings.request_log),
    )
    pool = Pool(tools, slots, rest=2 * settings.scan)
    telemetry.instruments.watch_slots(slots.size, lambda: pool.busy, telemetry.calls.generating)
    telemetry.instruments.begin_at_zero(
        "railstream.jobs.dead", (DeliveriesExhaustedError.code, JobNotUnderstoodError.code)
    )
    cancels = Cancels(
        redis,
        settings.redis_url,
        timeout=settings.redis_timeout,
        name=f"railstream-cancels-{name}",
        running=lambda: pool.running,
        cancel=pool.cancel,
    )
    reader = JobReader(
        redis, slots, leases, pool.start, pool=settings.pool, worker=name, lease=settings.lease, scan=settings.scan
    )

    def metrics_page() -> tuple[int, str, str]:
        return 200, CONTENT_TYPE, telemetry.metrics_page().decode()

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(telemetry.shutdown)
            stack.push_async_callback(redis.aclose)
            stack.push_async_callback(tools.models.aclose)
            stack.push_async_callback(engines.aclose)
            await wait_for_redis(redis, settings, app.stopping)
            preload(configs, tools)
            running: dict[str, Callable[[], Awaitable[None]]] = {
                "publishing": publisher.run,
                "renewing claims": leases.run,
                "listening for cancels": cancels.run,
                "removing dead workers": partial(forget_dead_often, redis, keys.jobs(settings.pool)),
            }
            if settings.http_port is not None:
                pages = Pages(
                    settings.http_host, settings.http_port, ready=publisher.connected.is_set, metrics=metrics_page
                )
                running["serving pages"] = pages.run
            tasks = [services.start(name, service) for name, service in running.items()]
            stack.push_async_callback(_stop, tasks)
            stack.push_async_callback(_leave, redis, leases, settings.pool, name)
            stack.push_async_callback(drains.wait)
            stack.push_async_callback(pool.drain, settings.drain_timeout)
            reading = {"reading new jobs": reader.read_new, "reading expired jobs": reader.read_expired}
            stack.push_async_callback(_stop, [services.start(name, service) for name, service in reading.items()])
            stack.callback(drains.close)
            stack.callback(slots.close)
            yield

    app = Worker(broker, lifespan=lifespan, logger=None)

    @app.on_shutdown
    async def take_no_more() -> None:
        slots.close()
        drains.close()

    return app


def preload(configs: ConfigSet, tools: Tools) -> None:
    """Import the engines of what is configured and compile its rails now: on a first job that would stall the others.

    What cannot be made is said here, and to whoever asks for it.
    """
    for config in configs:
        try:
            tools.engines.of(config)
            tools.models.of(config, "")
        except RailstreamError as error:
            log.warning("config %r: %s", config.id, error)


async def wait_for_redis(redis: Redis, settings: WorkerSettings, stopping: asyncio.Event) -> None:
    """A worker may start before its Redis: wait, and say so once.

    Raises:
        StoppedError: it is to stop instead.
    """
    said = False
    while not stopping.is_set():
        try:
            await redis.ping()
            await note_history(redis)
            return await ensure_group(redis, keys.jobs(settings.pool))
        except FAILURES as error:
            if not said:
                log.warning("waiting for redis: %s", error)
            said = True
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await stopping.wait()
    raise StoppedError


async def _stop(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _leave(redis: Redis, leases: Leases, pool: str, name: str) -> None:
    """Hand back what was read in the last moment, and take this consumer off the group if nothing pends on it."""
    with suppress(*FAILURES):
        await worker_records.remove(redis, name)
        pending: list[Any] = await redis.xpending_range(keys.jobs(pool), keys.GROUP, "-", "+", 1000, consumername=name)
        for entry in pending:
            await leases.hand_back(entry["message_id"], entry["times_delivered"])
        if not pending:
            await redis.xgroup_delconsumer(keys.jobs(pool), keys.GROUP, name)
