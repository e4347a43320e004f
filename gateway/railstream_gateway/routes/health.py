"""Whether the process lives, and whether it can serve."""

from __future__ import annotations

from fastapi import APIRouter, Request
from railstream import keys, worker_records
from railstream.telemetry import CONTENT_TYPE
from railstream.worker_records import serving
from redis.exceptions import RedisError
from starlette.responses import PlainTextResponse, Response

from railstream_gateway.gateway import Gateway
from railstream_gateway.views.errors import json_answer

router = APIRouter()
PROBE_AGE = 60
"""Seconds that the key of the latest probe lives."""


@router.get("/livez", response_model=None)
async def live() -> Response:
    """200 while the process serves HTTP at all."""
    return json_answer({"status": "alive"})


@router.get("/readyz", response_model=None)
async def ready(request: Request) -> Response:
    """200 when Redis takes a write, a worker serves a pool of this gateway, and this gateway does not stop.

    One served pool is enough: taking the gateway away for another one would take it from the requests that are served.
    Pools that nobody serves are named, and are a metric (`railstream.pool.workers`); their requests wait, and end after
    the queue's time.
    """
    gateway: Gateway = request.app.state.gateway
    draining = gateway.open_streams.draining
    try:
        await gateway.redis.set(keys.probe(gateway.presence.name), 1, ex=PROBE_AGE)
        workers = await worker_records.living(gateway.redis)
        writable = True
    except (RedisError, OSError):
        workers, writable = [], False
    pools = {gateway.pool_of(config.railstream.pool) for config in gateway.configs}
    served = {pool: len(serving(workers, pool)) for pool in sorted(pools)}
    redis = writable and gateway.hub.connected
    ok = redis and any(served.values()) and not draining
    body = {
        "status": "ready" if ok else "unavailable",
        "redis": redis,
        "workers": sum(any(serving([worker], pool) for pool in pools) for worker in workers),
        "pools": {pool or "default": count for pool, count in served.items()},
        "unserved_pools": [pool or "default" for pool, count in served.items() if not count],
        "draining": draining,
    }
    return json_answer(body, 200 if ok else 503)


@router.get("/metrics", response_class=PlainTextResponse, response_model=None)
async def metrics(request: Request) -> Response:
    """What this process has measured, as Prometheus text."""
    gateway: Gateway = request.app.state.gateway
    return Response(gateway.telemetry.metrics_page(), headers={"content-type": CONTENT_TYPE})
