"""Whether the process lives, and whether it can serve."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from railstream import keys
from railstream.telemetry import CONTENT_TYPE
from redis.exceptions import RedisError
from starlette.responses import PlainTextResponse, Response

from railstream_gateway.answers import json_answer
from railstream_gateway.gateway import Gateway

router = APIRouter()
SEEN_WITHIN = 10.0
"""Seconds since a worker's last sign of life, past which it does not count."""


@router.get("/livez", response_model=None)
async def live() -> Response:
    """200 while the process serves HTTP at all."""
    return json_answer({"status": "alive"})


@router.get("/readyz", response_model=None)
async def ready(request: Request) -> Response:
    """200 when Redis answers, a worker was seen within 10 s, and this gateway does not stop."""
    gateway: Gateway = request.app.state.gateway
    workers = await _workers(gateway)
    draining = gateway.open_streams.draining
    ok = bool(workers) and not draining and gateway.hub.connected
    body = {
        "status": "ready" if ok else "unavailable",
        "redis": workers is not None and gateway.hub.connected,
        "workers": workers or 0,
        "draining": draining,
    }
    return json_answer(body, 200 if ok else 503)


@router.get("/metrics", response_class=PlainTextResponse, response_model=None)
async def metrics(request: Request) -> Response:
    """What this process has measured, as Prometheus text."""
    gateway: Gateway = request.app.state.gateway
    return Response(gateway.telemetry.metrics_page(), headers={"content-type": CONTENT_TYPE})


async def _workers(gateway: Gateway) -> int | None:
    """How many were seen; ``None`` when Redis does not answer."""
    try:
        return int(await gateway.redis.zcount(keys.WORKERS, time.time() - SEEN_WITHIN, "+inf"))
    except (RedisError, OSError):
        return None
