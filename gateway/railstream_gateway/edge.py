"""The outermost layer: who asks is known, and a gateway that stops refuses what is new, before any route runs.

Each request of the API is one span, which stays open as long as its stream.
"""

from __future__ import annotations

import time
from typing import Any, Final

from railstream.errors import RailstreamError
from railstream.telemetry import OpenSpan
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from railstream_gateway.accept.auth import credential_in
from railstream_gateway.gateway import Gateway
from railstream_gateway.stream.open_streams import stopping
from railstream_gateway.summary import Summary
from railstream_gateway.views.errors import error_answer

PROTECTED: Final = "/v1/"
ALWAYS_SERVED: Final = frozenset({"/livez", "/readyz", "/metrics"})


class Edge:
    """A plain ASGI callable. ``state`` of what it passes on: ``tenant``, ``span``, ``arrived`` (monotonic seconds), and
    ``send``, the server's own: a stream sends its body past the layers that look at nothing but its start. What it
    leaves there: ``error_type``, how it ended. ``summary`` becomes the line of the request log.
    """

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        draining = self._gateway.open_streams.draining
        if scope["path"].startswith(PROTECTED):
            return await self._trace(scope, receive, _closing(send) if draining else send)
        if draining:
            send = _closing(send)
            if scope["path"] not in ALWAYS_SERVED:
                return await error_answer(stopping())(scope, receive, send)
        await self._app(scope, receive, send)

    async def _trace(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        span = self._gateway.telemetry.tracing.request(scope["method"], "", headers, scheme=scope["scheme"])
        summary = Summary(scope["method"], time.monotonic(), trace_id=span.trace_id)
        state: dict[str, Any] = scope.setdefault("state", {})
        state["summary"] = summary
        state["span"] = span
        state["send"] = send
        state["arrived"] = summary.arrived
        error = ""
        try:
            await self._admit(scope, receive, _traced(send, span, summary), credential_in(headers))
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            del state["send"]  # it leads back to the scope, and so would keep both until a garbage collection
            route = scope.get("route")
            summary.route = getattr(route, "path", "")
            if route is not None:
                span.route(scope["method"], summary.route)
            cut = error or state.get("error_type", "")
            span.end(cut)
            summary.write(self._gateway.request_log, cut)
            seconds = time.monotonic() - summary.arrived
            self._gateway.telemetry.instruments.http_request(summary.method, summary.route, summary.status, seconds)

    async def _admit(self, scope: Scope, receive: Receive, send: Send, credential: str | None) -> None:
        try:
            if self._gateway.open_streams.draining:
                raise stopping()
            tenant = scope["state"]["tenant"] = self._gateway.api_keys.tenant(credential)
            scope["state"]["summary"].tenant = tenant
        except RailstreamError as error:
            scope["state"]["summary"].code = error.code
            self._gateway.telemetry.instruments.rejected(error.code)
            return await error_answer(error)(scope, receive, send)
        await self._app(scope, receive, send)


def _traced(send: Send, span: OpenSpan, summary: Summary) -> Send:
    async def traced(message: Message) -> None:
        if message["type"] == "http.response.start":
            summary.status = message["status"]
            span.respond(summary.status)
            if span.traceparent:
                message["headers"] = [*message["headers"], (b"traceresponse", span.traceparent.encode())]
        await send(message)

    return traced


def _closing(send: Send) -> Send:
    """Tell the client to ask elsewhere next time."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["connection"] = "close"
        await send(message)

    return closing
