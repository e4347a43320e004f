"""Run a worker until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys

from railstream.heap import collect_rarely
from railstream.settings import WorkerSettings

from railstream_worker.app import StoppedError, create_worker

log = logging.getLogger(__name__)


def serve(settings: WorkerSettings) -> int:
    """Serve until SIGTERM or SIGINT, drain, and return the exit status."""
    if sys.platform == "win32":
        asyncio.run(_run(settings))
    else:
        import uvloop

        uvloop.run(_run(settings))
    return 0


async def _run(settings: WorkerSettings) -> None:
    app = create_worker(settings)
    app.after_startup(collect_rarely)
    with contextlib.suppress(StoppedError):
        await app.run()
    log.info("worker has drained")
