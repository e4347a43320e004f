"""What starts a side of the product: its package is loaded, its logs are set up, its settings are said."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

from railstream import logs
from railstream.errors import ConfigurationError
from railstream.settings import Settings

OUR_PACKAGES = ("railstream", "railstream_gateway", "railstream_worker", "railstream_engine")
ALWAYS_SAID = frozenset({"redis_url"})

log = logging.getLogger(__name__)


def serve(side: str, settings: Settings) -> int:
    """Run ``side`` ("gateway" or "worker") until it is told to stop; returns its exit code.

    Raises:
        ConfigurationError: a package of the side's extra is not installed.
    """
    run = serve_of(side)
    logs.configure(settings.log_level, settings.log_format, side)
    log.info("%s starts with %s", side, chosen(settings))
    return run(settings)


def serve_of(side: str) -> Callable[[Any], int]:
    """``railstream_<side>.run.serve``.

    Raises:
        ConfigurationError: a package of the side's extra is not installed.
    """
    try:
        serve: Callable[[Any], int] = import_module(f"railstream_{side}.run").serve
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package in OUR_PACKAGES:
            raise
        raise ConfigurationError(
            f"railstream {side} needs {package!r}, which is not installed: pip install 'railstream[{side}]'"
        ) from missing
    return serve


def chosen(settings: Settings) -> str:
    """The settings that are not left to their defaults, as JSON and without secrets."""
    said = settings.model_fields_set | ALWAYS_SAID
    return json.dumps({name: value for name, value in sorted(settings.redacted().items()) if name in said})
