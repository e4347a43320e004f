"""What web pages may do with a gateway: who may read it from another origin, and what a keyless one refuses.

A page on any site can send a "simple" POST to a gateway on the machine of whoever looks at it, and can read it after it
has rebound its own name to that address. Without API keys nothing else would stop it, so such a request is refused by
its ``Origin`` and its ``Host``, before any route runs. Programs send no ``Origin``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from railstream.errors import PermissionDeniedError
from railstream.settings import GatewaySettings
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from railstream_gateway.views.errors import error_answer

ANY: Final = "*"
PROBES: Final = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked by their pod's address, whatever that is; they cost nothing."""
EXPOSED: Final = "x-request-id, x-upstream-request-id, x-should-retry, retry-after, traceresponse"
METHODS: Final = "GET, POST, PATCH, DELETE"
MAX_AGE: Final = "600"
"""Seconds that a browser may remember a preflight's answer."""


class BrowserRules:
    """A plain ASGI callable, the outermost one."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        self._origins = frozenset(settings.cors_origins)
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts) | {settings.host.lower()}
        self._keyless = not settings.api_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            return await self._app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get("origin")
        allowed = origin is not None and self._shares_with(origin)
        if self._keyless:
            try:
                self._check(headers.get("host", ""), origin, allowed=allowed)
            except PermissionDeniedError as error:
                return await error_answer(error)(scope, receive, send)
        if origin is None:
            return await self._app(scope, receive, send)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            return await _preflight(headers, origin, allowed=allowed)(scope, receive, send)
        await self._app(scope, receive, _shared(send, origin) if allowed else send)

    def _shares_with(self, origin: str) -> bool:
        return ANY in self._origins or origin in self._origins

    def _check(self, host: str, origin: str | None, *, allowed: bool) -> None:
        name = host_name(host)
        if not (ANY in self._hosts or name in self._hosts or is_loopback(name)):
            raise PermissionDeniedError(
                f"Host {host[:200]!r} is not a name of this gateway, which has no API keys: name it in "
                "RAILSTREAM_ALLOWED_HOSTS (* for any), or set RAILSTREAM_API_KEYS",
                code="host_not_allowed",
            )
        if not (origin is None or allowed or urlsplit(origin).netloc.lower() == host.lower()):
            raise PermissionDeniedError(
                f"pages of origin {origin[:200]!r} may not use this gateway, which has no API keys: name it in "
                "RAILSTREAM_CORS_ORIGINS, or set RAILSTREAM_API_KEYS",
                code="origin_not_allowed",
            )


def host_name(host: str) -> str:
    """The host name in a ``Host`` header, without the port; empty when the header holds no valid name."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _cors(origin: str) -> dict[str, str]:
    return {"access-control-allow-origin": origin, "access-control-expose-headers": EXPOSED, "vary": "origin"}


def _preflight(headers: Mapping[str, str], origin: str, *, allowed: bool) -> Response:
    """https://fetch.spec.whatwg.org/#cors-preflight-fetch; it comes without a key."""
    if not allowed:
        message = f"pages of origin {origin[:200]!r} may not use this gateway: name it in RAILSTREAM_CORS_ORIGINS"
        return error_answer(PermissionDeniedError(message, code="origin_not_allowed"))
    given = _cors(origin) | {"access-control-allow-methods": METHODS, "access-control-max-age": MAX_AGE}
    if asked := headers.get("access-control-request-headers"):
        given["access-control-allow-headers"] = asked
    if headers.get("access-control-request-private-network") == "true":
        given["access-control-allow-private-network"] = "true"
    return Response(status_code=204, headers=given)


def _shared(send: Send, origin: str) -> Send:
    """Let the page of this origin read the response."""
    added = [(name.encode(), value.encode("latin-1")) for name, value in _cors(origin).items()]

    async def shared(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *added]
        await send(message)

    return shared


PAGE_HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
"""Of every page: it loads nothing from other hosts, and stands in no frame."""
