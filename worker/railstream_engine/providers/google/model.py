"""Google's Gemini models through their own API, generateContent: no SDK, our transport, reader and retries.

Google's OpenAI-compatible endpoint leaves out what this one says: thoughts and their tokens, which functions' calls
end an answer, the reasons of its filters. Google's SDK reports a cut stream as success, and closing it stops nothing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, NamedTuple

import httpx2
from railstream.errors import CallError

from railstream_engine.providers.endpoint import Endpoint
from railstream_engine.providers.faults import answered, redact
from railstream_engine.providers.google.events import ContentReader
from railstream_engine.providers.google.request import body_of
from railstream_engine.providers.http.exchange import LIMITS, answer, timeout_of, traced
from railstream_engine.providers.http.transport import direct_transport
from railstream_engine.providers.options import accepted
from railstream_engine.providers.port import Call, Part
from railstream_engine.providers.responses import hooks

VERSION: Final = "v1beta"
"""Of the API, where the address names none."""


class Answered(NamedTuple):
    """A response, as an exchange reads it."""

    http_response: httpx2.Response


class Refused(Exception):
    """The response is an error; its body was read."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.status_code = response.status_code


class GoogleModel:
    """One of Google's models. Its connections are kept between calls."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.name = endpoint.model
        self.provider = endpoint.provider
        self.address = endpoint.host
        self.port = endpoint.port
        self._endpoint = endpoint
        self._client = httpx2.AsyncClient(
            base_url=_versioned(endpoint.base_url),
            headers={"x-goog-api-key": endpoint.api_key, **endpoint.headers},
            params={**endpoint.query, "alt": "sse"},  # type: ignore[dict-item]  # a config's values are primitives
            timeout=timeout_of(endpoint),
            limits=LIMITS,
            transport=direct_transport(LIMITS),
            event_hooks=hooks(),
        )

    def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        """Parts as they arrive. Raises ``CallError``; never ends without every candidate's ``finishReason``."""
        return answer(self, call, self._endpoint.patience)

    def request(self, call: Call) -> AbstractAsyncContextManager[Any]:
        endpoint = self._endpoint
        params = {**endpoint.params, **accepted(call, endpoint.provider, endpoint.refuses, endpoint.drops)}
        return self._sent(call, body_of(call.model, call.messages, params))

    @asynccontextmanager
    async def _sent(self, call: Call, body: dict[str, Any]) -> AsyncIterator[Answered]:
        path = call.model if "/" in call.model else f"models/{call.model}"
        request = self._client.build_request("POST", f"{path}:streamGenerateContent", json=body, headers=traced(call))
        response = await self._client.send(request, stream=True)
        try:
            if response.status_code != 200:
                await response.aread()
                raise Refused(response)
            yield Answered(response)
        finally:
            await response.aclose()

    def reader(self, call: Call) -> ContentReader:
        return ContentReader()

    def fault(self, error: Exception) -> CallError | None:
        key = self._endpoint.api_key
        if isinstance(error, Refused):
            response = error.response
            return answered(_body(response), status=response.status_code, headers=response.headers, key=key)
        if isinstance(error, httpx2.TimeoutException):
            which = "connect_timeout" if isinstance(error, httpx2.ConnectTimeout) else None
            said = f"the provider did not answer in time: {redact(str(error), key)}"
            return CallError(said, code="timeout", param=which)
        if isinstance(error, httpx2.HTTPError):
            return CallError(f"the provider cannot be reached: {redact(str(error), key)}", code="connection")
        return None

    async def aclose(self) -> None:
        await self._client.aclose()


def _versioned(address: str) -> str:
    address = address.rstrip("/")
    return address if re.search(r"/v\d\w*$", address) else f"{address}/{VERSION}"


def _body(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text
