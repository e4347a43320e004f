"""`railstream worker`: generate, guard and publish completions."""

from __future__ import annotations

from railstream.cli.options import settings_command
from railstream.cli.start import serve
from railstream.ports import check_port
from railstream.settings import WorkerSettings


@settings_command(WorkerSettings)
def worker(settings: WorkerSettings) -> int:
    """Take jobs from Redis, call the model, check its words with the rails, publish what passed.

    Run as many as you like on one Redis; the jobs of a worker that dies are taken over by the others.
    On SIGTERM it takes no more jobs, finishes or hands over the running ones, and exits 0.

    \b
    Examples:
      railstream worker --redis-url redis://redis:6379/0 --config ./configs
      railstream worker --concurrency 16 --http-port 9100    with /livez, /readyz and /metrics
    """
    if settings.http_port is not None:
        check_port(settings.http_host, settings.http_port, "--http-port")
    return serve("worker", settings)
