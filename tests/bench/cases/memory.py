"""Memory: of gateway and worker per open stream, of Redis per stream of 500 tokens."""

from __future__ import annotations

from typing import Any

import redis

from bench.budget import GATEWAY_KB, REDIS_KB, WORKER_KB
from bench.load import Load
from bench.measuring import measure, warm_up
from bench.results import Row
from bench.settings import Bench
from bench.systems import railstream


async def memory(bench: Bench) -> None:
    settings = bench.settings
    streams = settings.scaled(500, 10)
    async with railstream(bench.upstream, bench.room(), config=settings.config, concurrency=1000) as system:
        assert system.redis is not None
        await warm_up(system, 5)
        before = _used(system.redis.url)
        run = await measure(system, Load(streams, settings.scaled(500, 20), settings.scaled(50, 25), stamp=False))
        grown = (_used(system.redis.url) - before) / streams / 1e3
        keys = _of_keys(system.redis.url)
    per_stream = {part: size / streams / 1e3 for part, size in run.growth.items()}
    bench.findings.add(
        Row("memory", f"gateway, per open stream, {streams} at once", per_stream["gateway"], "kB", GATEWAY_KB),
        Row("memory", "worker, per generation", per_stream["worker"], "kB", WORKER_KB),
        Row("memory", "redis, per stream of 500 tokens", grown, "kB", REDIS_KB, note=f"its events alone {keys:.1f} kB"),
    )
    bench.findings.details["memory"] = run.summary() | {"kb_per_stream": per_stream | {"redis": grown, "events": keys}}


def _used(url: str) -> int:
    """Bytes of data, without the buffers of connections, which the load's end leaves to their timers."""
    with redis.Redis.from_url(url) as client:
        stats: Any = client.memory_stats()
        return int(stats["dataset.bytes"])


def _of_keys(url: str) -> float:
    """Kilobytes of one request's stream, on average."""
    with redis.Redis.from_url(url) as client:
        sizes: list[Any] = [client.memory_usage(key, samples=0) for key in client.scan_iter("*:events:*", count=1000)]
        long = sorted(sizes)[len(sizes) // 2 :]
        return sum(long) / len(long) / 1e3
