"""What one gateway process holds: made once by `create_app`, given to every route."""

from __future__ import annotations

from dataclasses import dataclass

from railstream.config import ConfigSet
from railstream.conversations import Sessions
from railstream.request_log import RequestLog
from railstream.settings import GatewaySettings
from railstream.telemetry import Telemetry
from redis.asyncio import Redis

from railstream_gateway.accept.admission import Admission
from railstream_gateway.accept.auth import ApiKeys
from railstream_gateway.accept.presence import Presence
from railstream_gateway.stream.hub import Hub
from railstream_gateway.stream.lost_jobs import JobWatch
from railstream_gateway.stream.open_streams import OpenStreams


@dataclass(slots=True)
class Gateway:
    settings: GatewaySettings
    configs: ConfigSet
    redis: Redis
    sessions: Sessions
    hub: Hub
    admission: Admission
    open_streams: OpenStreams
    presence: Presence
    jobs: JobWatch
    api_keys: ApiKeys
    telemetry: Telemetry
    request_log: RequestLog

    def pool_of(self, config_pool: str) -> str:
        """The pool whose queue a config's jobs go to."""
        return config_pool or self.settings.pool
