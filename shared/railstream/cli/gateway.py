"""`railstream gateway`: serve the HTTP API."""

from __future__ import annotations

from railstream.cli.options import settings_command
from railstream.cli.start import serve
from railstream.ports import check_port
from railstream.settings import GatewaySettings


@settings_command(GatewaySettings)
def gateway(settings: GatewaySettings) -> int:
    """Serve the HTTP API: take requests, queue them, relay their streams.

    Run as many as you like on one Redis; a stream can be resumed on any of them.
    On SIGTERM it turns not ready, lets running streams go on for the drain timeout, and exits 0.

    \b
    Examples:
      railstream gateway --redis-url redis://redis:6379/0 --config ./configs
      RAILSTREAM_API_KEYS=key-1,key-2 railstream gateway --host 0.0.0.0 --port 8080
    """
    check_port(settings.host, settings.port, "--port")
    if settings.pages_port is not None:
        check_port(settings.pages_host, settings.pages_port, "--pages-port")
    return serve("gateway", settings)
