"""The gateway as an ASGI application: its composition root."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from railstream import services
from railstream.config import ConfigSet
from railstream.conversations import RedisSessions
from railstream.request_log import RequestLog
from railstream.settings import GatewaySettings
from railstream.telemetry import Telemetry, setup
from railstream.topology.connect import connect
from redis.asyncio import Redis

from railstream_gateway import openapi
from railstream_gateway.accept.admission import Admission
from railstream_gateway.accept.auth import ApiKeys
from railstream_gateway.accept.presence import Presence
from railstream_gateway.browsers import BrowserRules
from railstream_gateway.edge import Edge
from railstream_gateway.gateway import Gateway
from railstream_gateway.pages import playground, reference
from railstream_gateway.routes import chat, completions, flows, health, models, sessions
from railstream_gateway.stream.hub import Hub
from railstream_gateway.stream.lost_jobs import JobWatch
from railstream_gateway.stream.open_streams import OpenStreams
from railstream_gateway.views.errors import HANDLERS

TITLE = "Railstream"
DESCRIPTION = (
    "Chat completions whose tokens are checked by guardrails before they are released and are durable on the way. "
    "OpenAI's conventions wherever there are some: any OpenAI client works as it is. Errors are "
    '`{"error": {"message", "type", "param", "code"}}`.'
)
REFUSALS = (
    *("missing_api_key", "invalid_api_key", "queue_full", "queue_too_old"),
    *("redis_unavailable", "too_many_streams", "draining"),
)
"""Codes whose counters are exported from zero, so that an alert sees the first refusal."""


def create_app(
    settings: GatewaySettings,
    *,
    redis: Redis | None = None,
    configs: ConfigSet | None = None,
    telemetry: Telemetry | None = None,
) -> FastAPI:
    """An application that connects when it starts, not before.

    Raises:
        ConfigurationError: a rails config is wrong.
    """
    name = f"gateway-{socket.gethostname()}-{os.getpid()}"
    redis = redis or connect(settings.redis_url, settings.redis_timeout, name=name)
    configs = configs or ConfigSet.load(settings.config, default=settings.default_config)
    telemetry = telemetry or setup(
        "railstream-gateway",
        instance=name,
        models=configs.models(),
        trusts_traceparent=settings.trust_traceparent,
    )
    pools = {settings.pool} | {config.railstream.pool for config in configs if config.railstream.pool}
    gateway = Gateway(
        settings=settings,
        configs=configs,
        redis=redis,
        sessions=RedisSessions(redis),
        hub=Hub(settings.redis_url, timeout=settings.redis_timeout, name=f"{name}-hub"),
        admission=Admission(redis, settings, pools),
        open_streams=OpenStreams(settings.max_streams),
        presence=Presence(
            redis,
            f"{name}-{secrets.token_hex(3)}",
            retention=settings.retention,
            cancelled=lambda: telemetry.instruments.cancelled("disconnect"),
        ),
        jobs=JobWatch(redis, queue_timeout=settings.queue_timeout, retention=settings.retention),
        api_keys=ApiKeys(settings.api_keys),
        telemetry=telemetry,
        request_log=RequestLog(settings.request_log),
    )
    telemetry.instruments.watch_queues(gateway.admission.known_queues)
    telemetry.instruments.begin_at_zero("railstream.requests.rejected", REFUSALS)
    telemetry.instruments.watch_workers(gateway.admission.workers)
    telemetry.instruments.watch_configs({config.id: config.digest for config in configs})
    app = FastAPI(
        title=TITLE,
        lifespan=_lifespan,
        exception_handlers=HANDLERS,
        docs_url=None,  # FastAPI's pages load their scripts from another host
        redoc_url=None,
    )
    app.state.gateway = gateway
    app.add_middleware(Edge, gateway=gateway)
    app.add_middleware(BrowserRules, settings=settings)
    for routes in (chat, completions, models, sessions, flows, health, playground, reference):
        app.include_router(routes.router)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    gateway: Gateway = app.state.gateway
    running = {"reading streams": gateway.hub.run, "admission": gateway.admission.run, "presence": gateway.presence.run}
    background = [services.start(name, service) for name, service in running.items()]
    try:
        yield
    finally:
        gateway.open_streams.close()
        await gateway.presence.aclose()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await gateway.redis.aclose()
        await asyncio.to_thread(gateway.telemetry.shutdown)


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(title=TITLE, version=version("railstream"), description=DESCRIPTION, routes=app.routes)
        gateway: Gateway = app.state.gateway
        app.openapi_schema = openapi.add_components(document, wants_key=bool(gateway.settings.api_keys))
    return app.openapi_schema
