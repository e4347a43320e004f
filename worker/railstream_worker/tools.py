"""What every attempt of a process shares."""

from __future__ import annotations

from dataclasses import dataclass

from railstream.config import ConfigSet
from railstream.telemetry import Telemetry
from redis.asyncio import Redis

from railstream_worker.engines import Engines
from railstream_worker.lease import Leases
from railstream_worker.models import Models
from railstream_worker.publisher import Publisher


@dataclass(frozen=True, slots=True)
class Tools:
    redis: Redis
    publisher: Publisher
    leases: Leases
    configs: ConfigSet
    models: Models
    engines: Engines
    worker: str
    pool: str
    telemetry: Telemetry
    retention: float
    max_deliveries: int
