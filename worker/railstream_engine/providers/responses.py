"""What is checked of each response of a provider before its SDK reads it, as hooks of the HTTP client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Final, cast

import httpx2
from railstream.errors import CallError

ERROR_BODY: Final = 64 * 1024
"""Bytes that are read of the body of an error."""
_PORTS: Final = {"http": 80, "https": 443}


def hooks() -> dict[str, list[Callable[..., Awaitable[Any]]]]:
    """For ``event_hooks`` of an httpx2 client."""
    return {"response": [check_response]}


async def check_response(response: httpx2.Response) -> None:
    """Refuse a redirect to another host, and read only so much of an error. Raises ``CallError``."""
    if response.has_redirect_location:
        _refuse_other_host(response)
    if response.status_code >= 400:
        response.stream = _Bounded(cast(httpx2.AsyncByteStream, response.stream))


def _refuse_other_host(response: httpx2.Response) -> None:
    """A redirect repeats the request there: the prompt would go to a host that no config names."""
    try:
        target = response.url.join(response.headers["location"])
    except (httpx2.InvalidURL, ValueError) as error:
        raise CallError(f"the provider redirects ({response.status_code}) to no URL", code="not_found") from error
    here, there = _origin(response.url), _origin(target)
    upgraded = (here[0], there[0]) == ("http", "https") and here[1] == there[1] and (here[2], there[2]) == (80, 443)
    if here != there and not upgraded:
        raise CallError(
            f"the provider at {here[1]!r} redirects ({response.status_code}) to another host, which was not followed: "
            "name that host in the model's base_url if it is the right one",
            code="not_found",
        )


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or _PORTS.get(url.scheme, 0)


class _Bounded(httpx2.AsyncByteStream):
    """The beginning of a body; the rest is not read, and closing stops the provider."""

    def __init__(self, body: httpx2.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        left = ERROR_BODY
        async for data in cast(AsyncIterator[bytes], self._body):
            yield data[:left]
            left -= len(data)
            if left <= 0:
                return

    async def aclose(self) -> None:
        await self._body.aclose()
