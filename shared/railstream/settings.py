"""Settings: one frozen class per process, from ``RAILSTREAM_…`` variables and command-line options.

Durations are in seconds. An unknown ``RAILSTREAM_…`` variable is an error that names the nearest known one.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from railstream.errors import ConfigurationError
from railstream.request_log import share_of
from railstream.topology.urls import check_redis_url

PREFIX = "RAILSTREAM_"

OTHER_VARIABLES = frozenset(
    {
        PREFIX + name
        for name in (
            *("SERVER_URL", "CONFIG_ID", "STREAMING", "USAGE", "OUTPUT", "MODEL", "API_KEY"),
            *("SENTENCES", "BUFFER_SIZE", "BUFFER_TIME", "PROGRESS"),
        )
    }
)
"""Options of the commands that talk to a server, such as `railstream chat`."""

_SERVICE_LINK = re.compile(
    PREFIX + r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")

S = TypeVar("S", bound="Settings")


class Unit(str):
    """What a number counts, as the command line shows it in place of a value."""


Seconds = Annotated[float, Field(gt=0), Unit("SECONDS")]
Pause = Annotated[float, Field(ge=0), Unit("SECONDS")]
Bytes = Annotated[int, Field(gt=0), Unit("BYTES")]
Port = Annotated[int, Field(ge=0, le=65535), Unit("PORT")]
Jobs = Annotated[int, Field(gt=0), Unit("JOBS")]
Streams = Annotated[int, Field(gt=0), Unit("STREAMS")]
Generations = Annotated[int, Field(gt=0), Unit("GENERATIONS")]
Deliveries = Annotated[int, Field(gt=0), Unit("DELIVERIES")]
Processes = Annotated[int, Field(gt=0), Unit("PROCESSES")]


class Settings(BaseSettings):
    """What both sides need."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis or Valkey, 6.2 or newer.")
    config: Path | None = Field(None, description="A rails config, or a directory of them. Default: built-in.")
    pool: str = Field("", description="Worker pool: gateways of a pool feed the workers of that pool.")
    retention: Seconds = Field(3600, description="How long a stream is kept after its end.")
    drain_timeout: Seconds = Field(20, description="On SIGTERM: how long running work may go on.")
    redis_timeout: Seconds = Field(3, description="A Redis that answers later than this is down; below the lease.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is worth a line.")
    request_log: str = Field("all", description="A line per request: all, failed, off, or a share such as 0.1.")
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options, then the environment without what Kubernetes has put there."""
        assert isinstance(env_settings, EnvSettingsSource)
        found = env_settings.env_vars.items()
        env_settings.env_vars = {name: value for name, value in found if not is_service_link(name, value or "")}
        return init_settings, env_settings

    @field_validator("redis_url")
    @classmethod
    def _names_a_redis(cls, value: str) -> str:
        check_redis_url(value)
        return value

    @field_validator("request_log")
    @classmethod
    def _is_a_choice(cls, value: str) -> str:
        share_of(value)
        return value

    @field_validator("pool")
    @classmethod
    def _plain_pool(cls, value: str) -> str:
        if value and not value.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"pool {value!r} may hold letters, digits, '-' and '_' only")
        return value

    def redacted(self) -> dict[str, Any]:
        """The settings as they may be printed: no password, no key."""
        shown = self.model_dump(mode="json")
        shown["redis_url"] = redact_url(self.redis_url)
        if "api_keys" in shown:
            shown["api_keys"] = f"{len(shown['api_keys'])} configured"
        return shown


Page = Literal["metrics", "docs", "playground"]
PAGES: tuple[Page, ...] = ("metrics", "docs", "playground")


def _parts(value: Any) -> Any:
    """A text cut at its commas; anything else as it is."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


OnConfigMismatch = Literal["fail", "hand_back"]
"""What a worker does with a job whose config it holds in another version than the gateway."""


class GatewaySettings(Settings):
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every one.")
    port: Port = Field(8000, description="Port to listen on.")
    default_config: str = Field("", description="Config of requests that name none. Default: the only or first one.")
    api_keys: Annotated[tuple[str, ...], NoDecode] = Field((), description="Comma separated. None: open to all.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins of web pages that may use it, comma separated; * for every one."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Names that it is asked by, beside loopback, where it has no API keys; * for every one."
    )
    body_limit: Bytes = Field(4 * 1024 * 1024, description="Size of a request body.")
    queue_limit: Jobs = Field(1000, description="Waiting jobs, past which requests are refused with 429.")
    queue_age_limit: Seconds = Field(60, description="Age of the oldest waiting job, past which with 503.")
    queue_timeout: Seconds = Field(300, description="A job that no worker takes for this long ends with 503.")
    max_streams: Streams = Field(5000, description="Open streams of one gateway, past which with 503.")
    keep_alive: Seconds = Field(10, description="Between ': keep-alive' comments on a silent stream.")
    plain_keep_alive: Pause = Field(
        0, description="Between blanks in an answer without a stream, its status 200 sent ahead. 0: off."
    )
    client_buffer: Bytes = Field(1024 * 1024, description="How far a slow reader may be behind before it is closed.")
    send_timeout: Seconds = Field(30, description="A client that takes no byte for this long is closed.")
    header_timeout: Seconds = Field(10, description="From a connection's first byte to the end of its headers.")
    pages: Annotated[tuple[Page, ...], NoDecode] = Field(
        PAGES, description="Pages beside the API, comma separated, or none."
    )
    pages_port: Port | None = Field(None, description="Serve these pages here, and no more on the API's port.")
    pages_host: str = Field("127.0.0.1", description="Address of that port.")
    trust_traceparent: bool = Field(True, description="False restarts traces at this edge.")

    @field_validator("pages", mode="before")
    @classmethod
    def _some_or_none(cls, value: Any) -> Any:
        return () if value == "none" else _parts(value)

    @field_validator("api_keys", "cors_origins", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return _parts(value)


class WorkerSettings(Settings):
    concurrency: Generations = Field(64, description="Generations at once.")
    lease: Seconds = Field(5, description="A claim that is not renewed for this long may be taken over.")
    scan: Seconds = Field(1, description="Between looks for expired claims.")
    max_deliveries: Deliveries = Field(3, description="Deliveries of a job before it is dead.")
    dead_retention: Seconds = Field(7 * 24 * 3600, description="How long a dead job is kept: it holds a prompt.")
    on_config_mismatch: OnConfigMismatch = Field(
        "fail", description="A job whose config differs here: fail ends it with 503; hand_back leaves it to others."
    )
    flush_interval: Pause = Field(0.0035, description="Longest wait of an event for its batch, under load.")
    http_port: Port | None = Field(None, description="Live, ready and metrics pages; off unless given.")
    http_host: str = Field("127.0.0.1", description="Address of those pages.")


class UpSettings(GatewaySettings, WorkerSettings):
    """All that `railstream up` takes: it starts a gateway and workers, and perhaps a Redis."""

    workers: Processes = Field(2, description="Worker processes.")
    data_dir: Path | None = Field(None, description="Where the embedded Redis keeps its data. Default: temporary.")


def load(kind: type[S], environ: Mapping[str, str] | None = None, **given: Any) -> S:
    """Settings of ``kind`` from ``given`` (options that were not ``None``), then the environment, then defaults.

    Raises:
        ConfigurationError: a value is wrong, or a ``RAILSTREAM_…`` variable is not known.
    """
    refuse_unknown_variables(os.environ if environ is None else environ)
    try:
        return kind(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(
            f"setting {name} ({PREFIX}{name.upper()}) is wrong: {reason}; got {_shown(name, first.get('input'))}"
        ) from None  # its text would quote a password


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes has put the variable there, for a Service whose name begins with ``railstream``.

    It does so in every pod of the namespace (`enableServiceLinks`), as ``RAILSTREAM_PORT=tcp://10.0.0.1:8000``.
    https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """
    if _SERVICE_LINK.fullmatch(name.upper()):
        return True
    return name.upper().endswith("PORT") and _LINK_VALUE.match(value) is not None


def _shown(name: str, value: Any) -> str:
    """A refused value, without what it holds that is secret."""
    if name == "redis_url":
        return repr(hide_password(str(value)))
    return "a secret value" if name == "api_keys" else repr(value)


def refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    known = {PREFIX + name.upper() for name in UpSettings.model_fields} | OTHER_VARIABLES
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known and not is_service_link(name, environ[name]):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(f"environment variable {name} is not a setting of railstream{hint}")


def hide_password(text: str) -> str:
    """A text that may be no URL at all, without what stands where a URL has its password."""
    head, at, rest = text.rpartition("@")
    scheme, separator, user = head.rpartition("//")
    return f"{scheme}{separator}{user.partition(':')[0]}:***@{rest}" if at else text


def redact_url(url: str) -> str:
    """The URL without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))
