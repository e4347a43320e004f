"""What every attempt of a process shares."""

from __future__ import annotations

from dataclasses import dataclass, field

from railstream.config import ConfigSet, RailsConfig
from railstream.errors import ConfigMismatchError, RailstreamError, UnknownConfigError
from railstream.job import Job, Operation
from railstream.request_log import RequestLog
from railstream.settings import OnConfigMismatch
from railstream.telemetry import Telemetry
from railstream_engine.engines import Engines
from railstream_engine.models import Models
from redis.asyncio import Redis

from railstream_worker.attempts.usage_drains import UsageDrains
from railstream_worker.queue.leases import Leases
from railstream_worker.stream.publisher import Publisher


@dataclass(frozen=True, slots=True)
class Tools:
    redis: Redis
    publisher: Publisher
    leases: Leases
    drains: UsageDrains
    configs: ConfigSet
    models: Models
    engines: Engines
    worker: str
    pool: str
    telemetry: Telemetry
    retention: float
    max_deliveries: int
    dead_retention: float
    """Seconds."""
    on_config_mismatch: OnConfigMismatch = "fail"
    request_log: RequestLog = field(default_factory=RequestLog)

    def config_of(self, asked: Job | Operation) -> RailsConfig:
        """The config that a job, or one operation of it, is to be run under.

        Raises:
            UnknownConfigError, InvalidRequestError: there is none of its ids here, or they cannot be combined.
            ConfigMismatchError: the gateway holds another config under these ids.
        """
        config = self.configs.get(asked.configs)
        if asked.config_digest and asked.config_digest != config.digest:
            raise ConfigMismatchError(
                f"config {'+'.join(asked.configs)!r} is {asked.config_digest[:12]} at the gateway and "
                f"{config.digest[:12]} at this worker: give both the same files, and send the request again"
            )
        return config

    def holds_configs_of(self, job: Job) -> bool:
        """Whether the job's configs, its operations' included, are here as the gateway holds them."""
        try:
            for asked in job.operations or (job,):
                self.config_of(asked)
        except (ConfigMismatchError, UnknownConfigError):
            return False
        except RailstreamError:
            return True  # whatever else is wrong is told when the job runs
        return True
