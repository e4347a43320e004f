"""Read a request's body, and stop as soon as it is over the limit, whatever its headers say."""

from __future__ import annotations

import asyncio

from fastapi import Request
from railstream.errors import BodyTooLargeError, InvalidRequestError
from starlette.requests import ClientDisconnect


async def read_body(request: Request, limit: int, timeout: float) -> bytes:
    """``timeout``: seconds that the whole body may take.

    Raises:
        BodyTooLargeError: more than ``limit`` bytes are announced, or come.
        InvalidRequestError: it takes too long.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
    except TimeoutError:
        raise InvalidRequestError(f"the body did not arrive within {timeout:.0f} s", code="body_timeout") from None
    except ClientDisconnect:
        raise InvalidRequestError("the client left before its body ended", code="client_left") from None
    return b"".join(parts)


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is over the limit of {limit} bytes")
