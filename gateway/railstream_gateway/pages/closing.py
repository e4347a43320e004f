"""Which of the pages beside the API one port serves: what is closed there, or stands on another port, is not found."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from railstream.settings import Page
from starlette.types import ASGIApp, Receive, Scope, Send

from railstream_gateway.views.errors import envelope, json_answer

PATHS: Final[dict[str, Page]] = {
    "/metrics": "metrics",
    "/docs": "docs",
    "/redoc": "docs",
    "/openapi.json": "docs",
    "/": "playground",
}
"""A page, and whatever lies below it."""


def page_of(path: str) -> Page | None:
    """The page that a path belongs to; ``None`` for the API, the probes and what does not exist."""
    if path == "/":
        return "playground"
    first = "/" + path.lstrip("/").partition("/")[0]
    return PATHS.get(first) if first != "/" else None


class OnlyPages:
    """A plain ASGI callable. ``served``: the pages of this port; API and probes pass."""

    def __init__(self, app: ASGIApp, served: Collection[Page]) -> None:
        self._app = app
        self._served = frozenset(served)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = page_of(scope["path"]) if scope["type"] == "http" else None
        if page is None or page in self._served:
            return await self._app(scope, receive, send)
        message = f"the page {page!r} is not served on this port"
        answer = json_answer(envelope(message, "invalid_request_error", "not_found"), 404)
        await answer(scope, receive, send)
