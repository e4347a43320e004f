"""Anthropic's Messages, through the `anthropic` SDK: its client and auth, our reader and retries.

The SDK reports a cleanly cut stream as success, lets transport errors through as they are, and gives an error in a
stream the status 200; so the body is read as bytes, and the end signal is demanded.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import anthropic
import httpx2
from railstream.errors import CallError

from railstream_engine.providers.anthropic.events import MessageReader
from railstream_engine.providers.anthropic.request import body_of
from railstream_engine.providers.endpoint import Endpoint
from railstream_engine.providers.faults import answered, redact
from railstream_engine.providers.http.exchange import LIMITS, answer, timeout_of, traced
from railstream_engine.providers.http.transport import direct_transport
from railstream_engine.providers.options import accepted
from railstream_engine.providers.port import Call, Part
from railstream_engine.providers.responses import hooks


class AnthropicModel:
    """One of Anthropic's models. Its connections are kept between calls."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.name = endpoint.model
        self.provider = endpoint.provider
        self.address = endpoint.host
        self.port = endpoint.port
        self._endpoint = endpoint
        self._client = anthropic.AsyncAnthropic(
            base_url=endpoint.base_url.removesuffix("/").removesuffix("/v1"),
            api_key=endpoint.api_key or "none",
            max_retries=0,
            timeout=timeout_of(endpoint),
            default_headers=dict(endpoint.headers),
            default_query=dict(endpoint.query),
            http_client=anthropic.DefaultAsyncHttpxClient(
                limits=LIMITS, transport=direct_transport(LIMITS), event_hooks=hooks()
            ),
        )

    def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        """Parts as they arrive. Raises ``CallError``; never ends without ``message_stop``."""
        return answer(self, call, self._endpoint.patience)

    def request(self, call: Call) -> AbstractAsyncContextManager[Any]:
        endpoint = self._endpoint
        params = accepted(call, endpoint.provider, endpoint.refuses, endpoint.drops)
        body = body_of(call.model, call.messages, {**endpoint.params, **params})
        # The request goes as it is: what the SDK has a parameter for follows its own version of the API.
        return self._client.messages.with_streaming_response.create(
            model="", max_tokens=1, messages=[], stream=True, extra_body=body, extra_headers=self._headers(call)
        )

    def _headers(self, call: Call) -> dict[str, str]:
        older = "anthropic-version" in self._endpoint.headers
        return {**traced(call), **({"x-api-key": self._endpoint.api_key} if older else {})}

    def reader(self, call: Call) -> MessageReader:
        return MessageReader()

    def fault(self, error: Exception) -> CallError | None:
        key = self._endpoint.api_key
        if isinstance(error.__cause__, CallError):  # of a hook
            return error.__cause__
        if isinstance(error, anthropic.APITimeoutError):
            which = "connect_timeout" if isinstance(error.__cause__, httpx2.ConnectTimeout) else None
            said = f"the provider did not answer in time: {redact(error.message, key)}"
            return CallError(said, code="timeout", param=which)
        if isinstance(error, anthropic.APIConnectionError):
            return CallError(f"the provider cannot be reached: {redact(error.message, key)}", code="connection")
        if isinstance(error, anthropic.APIStatusError):
            body = error.body.get("error") if isinstance(error.body, dict) else None
            headers = error.response.headers
            return answered(body, status=error.status_code, headers=headers, key=key, message=error.message)
        if isinstance(error, anthropic.AnthropicError):
            return CallError(redact(str(error), key), code="provider")
        return None

    async def aclose(self) -> None:
        await self._client.close()
