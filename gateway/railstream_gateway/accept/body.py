"""Read a request's body, and stop as soon as it is over the limit, whatever its headers say.

A compressed body counts by what it unfolds to, and is unfolded no further than the limit.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from fastapi import Request
from railstream.errors import BodyTooLargeError, InvalidRequestError
from starlette.requests import ClientDisconnect

WINDOW: Final = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""zlib's ``wbits`` by the name of a ``Content-Encoding``."""


async def read_body(request: Request, limit: int, timeout: float) -> bytes:
    """``timeout``: seconds that the whole body may take.

    Raises:
        BodyTooLargeError: more than ``limit`` bytes are announced, or come.
        InvalidRequestError: it takes too long, or is compressed in a way that is not known.
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
    return _unfolded(b"".join(parts), request.headers.get("content-encoding", ""), limit)


def _unfolded(data: bytes, encoding: str, limit: int) -> bytes:
    """The body without its ``Content-Encoding``."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return data
    if name not in WINDOW:
        known = ", ".join(sorted(WINDOW))
        raise InvalidRequestError(f"Content-Encoding {encoding[:80]!r} is not read here: {known} are", code="encoding")
    unfolding = zlib.decompressobj(WINDOW[name])
    try:
        unfolded = unfolding.decompress(data, limit + 1)
    except zlib.error as error:
        raise InvalidRequestError(f"the body is not {name}: {error}", code="encoding") from error
    if len(unfolded) > limit:
        raise _too_large(limit)
    if not unfolding.eof:
        raise InvalidRequestError(f"the body is not whole {name}: it ends too early", code="encoding")
    return unfolded


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is over the limit of {limit} bytes")
