"""The worker's own small pages: live, ready and metrics. A few lines of HTTP, since its image has no web framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Page = tuple[int, str, str]
"""Status, content type, body."""

_PHRASES = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


class Pages:
    def __init__(
        self, host: str, port: int, *, ready: Callable[[], bool], metrics: Callable[[], Page] | None = None
    ) -> None:
        self._host = host
        self._port = port
        self._ready = ready
        self._metrics = metrics

    async def run(self) -> None:
        """Serve until cancelled."""
        server = await asyncio.start_server(self._serve, self._host, self._port, limit=8192)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()  # a reader that takes nothing must not keep the worker from its end

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                request = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = self._page(request.split(b" ")[1].split(b"?")[0])
                data = body.encode()
                head = f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}"
                writer.write(f"{head}\r\nconnection: close\r\n\r\n".encode() + data)
                await writer.drain()
        except (OSError, TimeoutError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()

    def _page(self, path: bytes) -> Page:
        if path == b"/livez":
            return 200, "application/json", '{"status":"ok"}'
        if path == b"/readyz":
            return (200, "application/json", '{"status":"ok"}') if self._ready() else _not_ready()
        if path == b"/metrics" and self._metrics is not None:
            return self._metrics()
        return 404, "application/json", '{"error":"not found"}'


def _not_ready() -> Page:
    return 503, "application/json", '{"status":"redis is not reachable"}'
