"""`railstream up`: a Redis, one gateway and workers on this machine, as separate processes."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from redis.asyncio import Redis

from railstream.cli.options import settings_command
from railstream.cli.redis_session import ask_redis
from railstream.config import ConfigSet, missing_variables
from railstream.errors import RedisUnavailableError
from railstream.local import readiness
from railstream.local.announced import announcing
from railstream.local.redis_server import RedisServer, find_server, free_port, lock
from railstream.local.stack import gateway_child, redis_child, worker_children
from railstream.local.supervisor import StackFailed, StackStopped, Supervisor
from railstream.local.welcome import welcome
from railstream.ports import check_port
from railstream.settings import UpSettings


@settings_command(UpSettings)
def up(settings: UpSettings) -> int:
    """Start everything on this machine: a Redis unless you name one, one gateway, and workers.

    Without a config it serves OpenAI if OPENAI_API_KEY is set, and a scripted demo model otherwise.
    A process that dies is started again. Ctrl-C stops all of it, in order; a second one at once.

    \b
    Examples:
      railstream up
      railstream up --config ./configs --port 8080 --workers 4
      railstream up --redis-url redis://127.0.0.1:6379/0
      railstream up --data-dir ./data    keeps streams and queue from one run to the next
    """
    configs = ConfigSet.load(settings.config, default=settings.default_config)
    missing_variables.of_all(configs)
    if not settings.default_config:
        chosen = _first_served(configs)
        settings = settings.model_copy(update={"default_config": chosen})
        configs = ConfigSet.load(settings.config, default=chosen)
    settings = settings.model_copy(update={"port": _usable_port(settings.host, settings.port)})
    try:
        if "redis_url" in settings.model_fields_set:
            _require_redis(settings)
            return asyncio.run(_run(settings, configs, None))
        with _data_directory(settings.data_dir) as directory:
            server = RedisServer.prepare(find_server(), directory)
            with announcing(server.url, settings.port) as file:
                return asyncio.run(_run(settings, configs, server, file))
    except StackStopped:
        return 0
    except StackFailed as failure:
        print(f"railstream up: {failure}", file=sys.stderr)
        return failure.code


async def _run(
    settings: UpSettings, configs: ConfigSet, server: RedisServer | None, url_file: Path | None = None
) -> int:
    redis_url = server.url if server else settings.redis_url
    workers, gateway = worker_children(settings, redis_url), gateway_child(settings, redis_url)
    names = ["up", "redis", gateway.name, *(worker.name for worker in workers)]
    async with Supervisor(sys.stdout, names) as supervisor:
        if server:
            version = ".".join(map(str, server.program.version))
            supervisor.say(f"Redis {version} of {server.program.path}, data in {server.directory}")
            supervisor.start(redis_child(server))
            await supervisor.until("Redis", server.obstacle)
        supervisor.start(*workers)
        supervisor.start(gateway)
        host = readiness.reachable(settings.host)
        await supervisor.until("the gateway", partial(readiness.obstacle, host, settings.port))
        url = f"http://{host}:{settings.port}"
        supervisor.show(welcome(url, configs, wants_key=bool(settings.api_keys), url_file=url_file))
        await supervisor.serve()
    return 0


def _first_served(configs: ConfigSet) -> str:
    """The config of requests that name none: the first one whose models have their API keys."""
    return next((config.id for config in configs if not any(missing_variables.missing(config))), configs.default_id)


def _usable_port(host: str, port: int) -> int:
    check_port(host, port, "--port")
    return port or free_port(host)


def _require_redis(settings: UpSettings) -> None:
    """Raises ``RedisUnavailableError`` when the Redis that was named does not answer."""

    async def ping(redis: Redis) -> None:
        await redis.ping()

    try:
        ask_redis(settings, "up", ping)
    except RedisUnavailableError as error:
        raise RedisUnavailableError(f"{error}, or leave it out: then a Redis is started here") from error


@contextmanager
def _data_directory(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        with lock(chosen):
            yield chosen
        return
    with tempfile.TemporaryDirectory(prefix="railstream-", ignore_cleanup_errors=True) as temporary:
        yield Path(temporary)
