"""Any OpenAI-compatible endpoint, through the `openai` SDK: its client and auth, our reader and retries.

The SDK reports a cleanly cut stream as success, makes an object per chunk and retries only what fails before the
response's headers; so the body is read as bytes, and the end signal is demanded.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import httpx2
import msgspec
import openai
from openai._models import FinalRequestOptions
from railstream.errors import CallError

from railstream_engine.providers.endpoint import Endpoint
from railstream_engine.providers.faults import answered, redact
from railstream_engine.providers.http.exchange import LIMITS, answer, timeout_of, traced
from railstream_engine.providers.http.transport import direct_transport
from railstream_engine.providers.openai.events import ChunkReader
from railstream_engine.providers.options import accepted
from railstream_engine.providers.port import Call, Part
from railstream_engine.providers.responses import hooks

_encode = msgspec.json.Encoder().encode


class OpenAIModel:
    """One model of one endpoint. Its connections are kept between calls."""

    def __init__(self, endpoint: Endpoint, client: openai.AsyncOpenAI | None = None) -> None:
        self.name = endpoint.model
        self.provider = endpoint.provider
        self.address = endpoint.host
        self.port = endpoint.port
        self._endpoint = endpoint
        self._client = client or _Client(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key or "none",
            max_retries=0,
            timeout=timeout_of(endpoint),
            default_headers=dict(endpoint.headers),
            default_query=dict(endpoint.query),
            http_client=_http_client(),
        )

    def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        """Parts as they arrive. Raises ``CallError``; never ends without the provider's end signal."""
        return answer(self, call, self._endpoint.patience)

    def request(self, call: Call) -> AbstractAsyncContextManager[Any]:
        return self._client.chat.completions.with_streaming_response.create(
            model=call.model, messages=[], stream=True, extra_body=self._body(call), extra_headers=self._headers(call)
        )

    def _headers(self, call: Call) -> dict[str, Any]:
        """Of one call; with the key, where it stands in a header of the provider's own, in place of the SDK's."""
        name = self._endpoint.engine.key_header
        key = {name: self._endpoint.api_key, "Authorization": openai.Omit()} if name else {}
        return {**traced(call), **key}

    def reader(self, call: Call) -> ChunkReader:
        engine = self._endpoint.engine
        choices = {**self._endpoint.params, **call.params}.get("n")
        return ChunkReader(
            choices=choices if isinstance(choices, int) else 1,
            expects_usage=engine.asks_for_usage,
            keeps=self._endpoint.keeps,
            tools_end_with_stop=engine.tools_end_with_stop,
            thoughts_in_total=engine.thoughts_in_total,
        )

    def fault(self, error: Exception) -> CallError | None:
        return call_error(error, self._endpoint.api_key) if isinstance(error, openai.APIError) else None

    def _body(self, call: Call) -> dict[str, Any]:
        endpoint, engine = self._endpoint, self._endpoint.engine
        params = accepted(call, endpoint.provider, endpoint.refuses, endpoint.drops)
        messages = list(call.messages)
        body: dict[str, Any] = {**endpoint.params, **params, "model": call.model, "messages": messages, "stream": True}
        for name, other in engine.renames.items():
            if name in body:
                body[other] = body.pop(name)
        if engine.asks_for_usage:
            body["stream_options"] = {"include_usage": True}
            if endpoint.continuous_usage:
                body["stream_options"]["continuous_usage_stats"] = True
        if engine.continues and messages and messages[-1].get("role") == "assistant":
            body.update(engine.continue_params)
            messages[-1] = {**messages[-1], **engine.continue_message}
        return body

    async def aclose(self) -> None:
        await self._client.close()


class _Client(openai.AsyncOpenAI):
    """The SDK's, with the body written ten times faster: a prompt of megabytes holds up every stream of its worker."""

    async def _prepare_options(self, options: FinalRequestOptions) -> FinalRequestOptions:
        """The SDK's hook before a request is built. A body that msgspec cannot write is left to the SDK."""
        options = await super()._prepare_options(options)
        given, extra = options.json_data, options.extra_json
        if isinstance(given, dict):
            with suppress(TypeError, ValueError):
                options.json_data, options.extra_json = _encode({**given, **(extra or {})}), None
        return options


def _http_client() -> httpx2.AsyncClient:
    """Straight on the event loop; where a proxy stands in the environment by httpx2's own way, which knows how."""
    return openai.DefaultAsyncHttpxClient(limits=LIMITS, transport=direct_transport(LIMITS), event_hooks=hooks())


def call_error(error: openai.APIError, key: str = "") -> CallError:
    """One of ours for each of the SDK's."""
    if isinstance(error.__cause__, CallError):  # of a hook
        return error.__cause__
    if isinstance(error, openai.APITimeoutError):
        which = "connect_timeout" if isinstance(error.__cause__, httpx2.ConnectTimeout) else None
        message = f"the provider did not answer in time: {redact(error.message, key)}"
        return CallError(message, code="timeout", param=which)
    if isinstance(error, openai.APIConnectionError):
        return CallError(f"the provider cannot be reached: {redact(error.message, key)}", code="connection")
    if isinstance(error, openai.APIStatusError):
        return answered(
            error.body, status=error.status_code, headers=error.response.headers, key=key, message=error.message
        )
    return answered({"message": error.message, "code": error.code, "type": error.type}, key=key)
