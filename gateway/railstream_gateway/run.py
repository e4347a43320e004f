"""Run a gateway: uvicorn with our protocol, and an end that hands over what it cannot finish."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterator
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI
from railstream import logs
from railstream.heap import collect_rarely
from railstream.settings import GatewaySettings
from starlette.types import ASGIApp

from railstream_gateway.app import create_app
from railstream_gateway.gateway import Gateway
from railstream_gateway.pages.closing import OnlyPages
from railstream_gateway.stream.protocol import IDLE, with_header_timeout

log = logging.getLogger(__name__)

CLOSING_SHARE = 0.2
"""Of the drain timeout, kept for closing what did not end by itself; at most `MOST_CLOSING`."""
MOST_CLOSING = 2.0
"""Seconds."""


class Server(uvicorn.Server):
    """A signal starts the drain, with the socket still open: new requests are refused, not lost."""

    def __init__(
        self, config: uvicorn.Config, gateway: Gateway, *, alone: bool, pages: uvicorn.Server | None = None
    ) -> None:
        """``alone``: nothing else is done in its process. ``pages``: the server of the pages' own port."""
        super().__init__(config)
        self._pages = pages
        self._gateway = gateway
        self._alone = alone

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn raises the signal again at the end, and would not exit with 0."""
        known = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in known.items():
                signal.signal(number, handler)

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self._pages is not None and self.started:
            await _start_beside(self._pages)
        if self._alone:
            await collect_rarely()
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            log.info("serves on %s", url)
            if self.config.port == 0:
                print(url, flush=True)

    async def shutdown(self, sockets: Any = None) -> None:
        timeout = self._gateway.settings.drain_timeout
        closing = min(MOST_CLOSING, timeout * CLOSING_SHARE)
        await self._gateway.open_streams.drain(timeout - closing)
        if self._pages is not None and self._pages.started:
            await self._pages.shutdown()
        await super().shutdown(sockets)


async def _start_beside(server: uvicorn.Server) -> None:
    """Start a server that lives as long as another one, whose signals and lifespan are its own."""
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    log.info("serves its pages on http://%s:%d", f"[{host}]" if ":" in host else host, port)


def create_server(app: FastAPI, settings: GatewaySettings, *, alone: bool = False) -> Server:
    own_port = settings.pages_port is not None
    config = _config(OnlyPages(app, () if own_port else settings.pages), settings, settings.host, settings.port, "on")
    pages = None
    if settings.pages_port is not None:
        serving = OnlyPages(app, settings.pages)
        pages = uvicorn.Server(_config(serving, settings, settings.pages_host, settings.pages_port, "off"))
    return Server(config, app.state.gateway, alone=alone, pages=pages)


def _config(
    app: ASGIApp, settings: GatewaySettings, host: str, port: int, lifespan: Literal["on", "off"]
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=with_header_timeout(settings.header_timeout),
        ws="none",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(IDLE),
        timeout_graceful_shutdown=max(1, round(min(MOST_CLOSING, settings.drain_timeout * CLOSING_SHARE))),
        backlog=4096,
    )


def serve(settings: GatewaySettings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    logs.configure(settings.log_level, settings.log_format, "gateway")
    server = create_server(create_app(settings), settings, alone=True)
    server.run()
    return 0 if server.started else 1
