"""The processes of `railstream up`, and what each is told through its environment."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from railstream.local.child import Child
from railstream.local.redis_server import RedisServer, tidy
from railstream.settings import PREFIX, GatewaySettings, Settings, UpSettings, WorkerSettings

REDIS_GRACE = 10.0  # seconds
GRACE_PAST_DRAIN = 5.0  # seconds that a process may take to exit after its drain timeout


def redis_child(server: RedisServer) -> Child:
    return Child(
        "redis",
        server.command,
        _without_settings(os.environ),
        grace=REDIS_GRACE,
        orphan_signal=signal.SIGTERM,  # it syncs its file, and is gone at once
        tidy=tidy,
    )


def gateway_child(settings: UpSettings, redis_url: str) -> Child:
    return _child("gateway", settings, GatewaySettings, redis_url=redis_url)


def worker_children(settings: UpSettings, redis_url: str) -> list[Child]:
    """Workers 1 to N; their pages, if wanted, stand on as many ports in a row."""
    children = []
    for number in range(1, settings.workers + 1):
        pages = {} if settings.http_port is None else {"http_port": settings.http_port + number - 1}
        children.append(_child(f"worker-{number}", settings, WorkerSettings, redis_url=redis_url, **pages))
    return children


def _child(name: str, settings: UpSettings, kind: type[Settings], **given: Any) -> Child:
    command = [sys.executable, "-m", "railstream.cli", name.partition("-")[0]]
    grace = settings.drain_timeout + GRACE_PAST_DRAIN
    return Child(name, command, environment(settings, kind, **given), grace=grace)


def environment(settings: UpSettings, kind: type[Settings], **given: Any) -> dict[str, str]:
    """This process's environment, with the settings that ``kind`` knows and somebody chose, and ``given``."""
    chosen = {name: getattr(settings, name) for name in settings.model_fields_set if name in kind.model_fields}
    if settings.log_format == "auto":
        chosen["log_format"] = "text"
    variables = {PREFIX + name.upper(): _as_text(value) for name, value in (chosen | given).items()}
    return _without_settings(os.environ) | variables | {"PYTHONUNBUFFERED": "1"}


def _without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith(PREFIX)}


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value) or "none"
    return str(value)
