"""The options that every command for operators has."""

from __future__ import annotations

from typing import Annotated

import typer

RedisUrl = Annotated[
    str | None,
    typer.Option("--redis-url", metavar="URL", help="Redis of the deployment. [RAILSTREAM_REDIS_URL]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
