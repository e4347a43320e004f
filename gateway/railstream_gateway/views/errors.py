"""JSON answers: whole completions, and every error in OpenAI's envelope."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from railstream.errors import CancelledByRequest, OverloadedError, RailstreamError
from railstream.events import Cancelled, Failed, Finished
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from railstream_gateway.accept.admission import unavailable
from railstream_gateway.views.openai.completion import Fold
from railstream_gateway.views.openai.frames import CANCELLED

log = logging.getLogger(__name__)

UPSTREAM_ID: Final = "x-upstream-request-id"
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]{1,128}")
CODES: Final = {404: "not_found", 405: "method_not_allowed"}
_encode = msgspec.json.Encoder().encode


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(_encode(body), status, dict(headers or {}), media_type="application/json")


def error_answer(error: RailstreamError, headers: Mapping[str, str] | None = None) -> Response:
    after = error.retry_after if isinstance(error, OverloadedError) else None
    given = {**(headers or {}), **retry_headers(error.retryable, after)}
    return json_answer({"error": error.envelope()}, error.status, given)


def retry_headers(retryable: bool, after: float | None = None) -> dict[str, str]:
    """What tells an SDK whether to repeat a request, and when; ``after`` in seconds.

    SDKs repeat 408, 409, 429 and 5xx by themselves, unless ``x-should-retry`` says that it is useless.
    """
    if not retryable:
        return {"x-should-retry": "false"}
    return {} if after is None else {"retry-after": str(max(1, math.ceil(after)))}


def ending_answer(fold: Fold, *, with_log: bool, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a stream that has ended, however it did."""
    ended = fold.terminal
    if isinstance(ended, Failed | Cancelled):
        return failure_answer(ended, headers)
    if isinstance(ended, Finished) and ended.result is not None:
        return json_answer(ended.result, 200, headers)
    return json_answer(fold.completion(with_log=with_log), 200, headers)


def failure_answer(ended: Failed | Cancelled, headers: Mapping[str, str] | None = None) -> Response:
    """A request that ended without an answer, as an HTTP status."""
    given = dict(headers or {})
    if isinstance(ended, Cancelled):
        return json_answer({"error": CANCELLED}, CancelledByRequest.status, given | retry_headers(False))
    given |= retry_headers(ended.retryable, ended.retry_after)
    if _HEADER_VALUE.fullmatch(ended.upstream_request_id):
        given[UPSTREAM_ID] = ended.upstream_request_id
    return json_answer({"error": ended.error}, ended.status, given)


async def on_railstream_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RailstreamError)
    _note(request, error.code)
    return error_answer(error, getattr(request.state, "headers", None))


async def on_redis_error(request: Request, error: Exception) -> Response:
    log.warning("%s %s could not be served: %s", request.method, request.url.path, error)
    _note(request, unavailable().code)
    return error_answer(unavailable(), getattr(request.state, "headers", None))


async def on_http_error(request: Request, error: Exception) -> Response:
    """Starlette's own: no such route, or not with this method."""
    assert isinstance(error, HTTPException)
    message = f"{error.detail}: {request.method} {request.url.path[:200]}"
    code = CODES.get(error.status_code, "invalid_request")
    _note(request, code)
    return json_answer(envelope(message, "invalid_request_error", code), error.status_code, error.headers)


async def on_bad_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    _note(request, "invalid_request")
    return json_answer(envelope(f"{name}: {first['msg']}", "invalid_request_error", "invalid_request", name), 400)


async def on_unexpected(request: Request, error: Exception) -> Response:
    """The server logs it with its traceback."""
    _note(request, "internal_error")
    return json_answer(envelope("the gateway failed unexpectedly; its log has the details"), 500)


def _note(request: Request, code: str) -> None:
    """For the request log; what is not of the API has none."""
    summary = getattr(request.state, "summary", None)
    if summary is not None:
        summary.code = code


def envelope(
    message: str, type: str = "server_error", code: str = "internal_error", param: str | None = None
) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


HANDLERS: Final[dict[int | type[Exception], Any]] = {
    RailstreamError: on_railstream_error,
    RedisError: on_redis_error,
    HTTPException: on_http_error,
    RequestValidationError: on_bad_parameter,
    Exception: on_unexpected,
}
