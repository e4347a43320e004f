"""Fixtures of every suite: a real Redis, the testing upstream, whole stacks; and failure reports with process logs."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from harness.examples import profile_name, register_profiles
from harness.processes import Process
from harness.redis_server import ForeignRedis, RedisServer
from harness.stack import Stack, running_stack
from hypothesis import settings
from railstream.testing import Upstream
from railstream.topology.connect import connect
from redis.asyncio import Redis

register_profiles()
settings.load_profile(profile_name(os.environ))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a script: what is started here must be stopped by Ctrl-C all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--redis",
        default="auto",
        help="docker: a container; local: a redis-server of our own; or the URL of a Redis that we may flush. "
        "auto (default): a container where a Docker engine answers, else our own",
    )


REDIS_IMAGE = "redis:8"


def docker_answers() -> bool:
    """Whether an engine is there, and has the image or may get it."""
    if not _listens(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")):
        return False
    import docker

    engine = docker.from_env(timeout=5)
    try:
        engine.images.get(REDIS_IMAGE)
    except docker.errors.ImageNotFound:
        return _pulled(engine)
    except docker.errors.DockerException:
        return False
    finally:
        engine.close()
    return True


def _listens(host: str) -> bool:
    """Asked of the socket itself: the client leaves one open when nobody answers."""
    parts = urlsplit(host)
    family: socket.AddressFamily
    address: Any
    family, address = socket.AF_INET, (parts.hostname, parts.port or 2375)
    if parts.scheme == "unix":
        family, address = socket.AF_UNIX, parts.path
    with socket.socket(family) as probe:
        probe.settimeout(2)
        return probe.connect_ex(address) == 0


def _pulled(engine: Any) -> bool:
    import docker

    try:
        engine.images.pull(REDIS_IMAGE)
    except docker.errors.DockerException:
        return False
    return True


@pytest.fixture(scope="session")
def redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer | ForeignRedis]:
    """The session's Redis, not flushed: take ``redis_url``, or ``start_redis`` for one that may be killed."""
    choice = str(request.config.getoption("--redis"))
    if choice == "auto":
        choice = "docker" if docker_answers() else "local"
    if choice == "local":
        with RedisServer(tmp_path_factory.mktemp("redis"), options={"enable-debug-command": "yes"}) as server:
            yield server
    elif choice == "docker":
        from testcontainers.community.redis import RedisContainer
        from testcontainers.core.config import testcontainers_config

        testcontainers_config.ryuk_disabled = True  # one more image, for what the `with` does already
        with RedisContainer(REDIS_IMAGE) as container:
            host, port = container.get_container_host_ip(), container.get_exposed_port(6379)
            yield ForeignRedis(f"redis://{host}:{port}/0")
    else:
        yield ForeignRedis(choice)


@pytest.fixture
def redis_url(redis_server: RedisServer | ForeignRedis) -> str:
    """A Redis with nothing in it."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis, None]:
    """A client as the product has it, on the empty Redis."""
    client = connect(redis_url, 5, name="test")
    yield client
    await client.aclose()


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Start Redis servers of the test's own: ``start_redis(aof="always")``, ``start_redis(replica_of=first)``."""
    with ExitStack() as servers:
        number = iter(range(100))

        def start(**given: Any) -> RedisServer:
            return servers.enter_context(RedisServer(tmp_path / f"redis-{next(number)}", **given))

        yield start


@pytest.fixture
async def upstream() -> AsyncGenerator[Upstream, None]:
    """The testing upstream, in this process. Set ``upstream.script`` or send directives."""
    async with Upstream() as serving:
        yield serving


StartStack = Callable[..., Awaitable[Stack]]


@pytest.fixture
async def start_stack(tmp_path: Path, redis_url: str) -> AsyncGenerator[StartStack, None]:
    """Bring stacks up: ``await start_stack(gateways=2, workers=2, script=…, configs=…)``, see `running_stack`."""
    async with AsyncExitStack() as stacks:
        number = iter(range(100))

        async def start(**given: Any) -> Stack:
            directory = tmp_path / f"stack-{next(number)}"
            return await stacks.enter_async_context(
                running_stack(directory, given.pop("redis_url", redis_url), **given)
            )

        yield start


@pytest.fixture
async def stack(start_stack: StartStack) -> Stack:
    """One gateway, one worker, one config without rails."""
    return await start_stack()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the ends of the logs of the processes that it started."""
    report = yield
    if report.failed:
        for process in Process.started:
            report.sections.append((f"log of {process.name} (exit {process.exit_code})", process.tail()))
    if report.when == "teardown":
        Process.started.clear()
    return report
