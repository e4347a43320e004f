"""`railstream chat` against a server: the `openai` SDK on it, and the server's own view of how an answer ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import Any

from railstream.cli.chat_partner import Ended, Messages, UsedCall
from railstream.errors import ConfigurationError, StreamingNotSupportedError

CANCEL_TIMEOUT = 5.0
"""Seconds that a server may take to hear that its answer is not wanted any more."""


class Server:
    """Any OpenAI-compatible server; of a Railstream it also learns what was blocked, and each call's usage."""

    def __init__(self, url: str, config_id: str | None, model: str | None, api_key: str | None) -> None:
        try:
            import openai
        except ImportError as missing:
            raise ConfigurationError(
                "railstream chat --server-url needs 'openai', which is not installed: pip install 'railstream[worker]'"
            ) from missing
        base = url.rstrip("/")
        base = base if base.endswith("/v1") else f"{base}/v1"
        self.name = f"{config_id or model or 'the default config'} at {base}"
        self._error = openai.APIError
        self._unreachable = openai.APIConnectionError
        self._client = openai.AsyncOpenAI(base_url=base, api_key=api_key or "none", max_retries=0)
        self._model: Any = model or openai.omit  # Railstream serves the config's own model where none is named
        self._extra = {"guardrails": {"config_id": config_id}} if config_id else {}
        self._id = ""

    async def answer(self, messages: Messages, *, streaming: bool) -> AsyncGenerator[str | Ended, None]:
        self._id = ""
        try:
            async with aclosing(self._texts(messages, streaming)) as texts:
                async for text in texts:
                    yield text
        except asyncio.CancelledError:
            await self._cancel()
            raise
        except self._error as error:
            if error.code == StreamingNotSupportedError.code:
                raise StreamingNotSupportedError(error.message) from error
            blocked = error.code == "content_blocked"
            yield Ended("blocked" if blocked else "failed", self._explain(error))
            return
        yield await self._ending()

    def _explain(self, error: Any) -> str:
        """The server's own words; where it has not answered, its address and what to do."""
        if isinstance(error, self._unreachable):
            cause = error.__cause__ or error
            return f"{self._client.base_url} does not answer ({cause}); is a gateway running there? See --server-url"
        return str(error.message)

    async def _texts(self, messages: Messages, streaming: bool) -> AsyncGenerator[str, None]:
        given: Any = {"model": self._model, "messages": list(messages), "extra_body": self._extra}
        if not streaming:
            completion = await self._client.chat.completions.create(**given)
            self._id = completion.id
            yield completion.choices[0].message.content or ""
            return
        async with await self._client.chat.completions.create(**given, stream=True) as stream:
            async for chunk in stream:
                self._id = chunk.id
                for choice in chunk.choices:
                    if choice.delta.content:
                        yield choice.delta.content

    async def _cancel(self) -> None:
        """Say so: a connection that is closed may be one that resumes."""
        if self._id:
            with suppress(self._error, TimeoutError):
                async with asyncio.timeout(CANCEL_TIMEOUT):
                    await self._client.post(f"/chat/completions/{self._id}/cancel", cast_to=object)

    async def _ending(self) -> Ended:
        for name, data in await self._events():
            if name == "blocked":
                return Ended("blocked", str(data["error"].get("message")))
        return Ended()

    async def calls(self) -> Sequence[UsedCall]:
        return [
            UsedCall(
                data["task"], data["model"], data.get("input_tokens"), data.get("output_tokens"), data.get("seconds", 0)
            )
            for name, data in await self._events()
            if name == "usage"
        ]

    async def _events(self) -> list[tuple[str, dict[str, Any]]]:
        """The events of the last answer; none where the server has no such view."""
        if not self._id:
            return []
        with suppress(self._error):
            text: str = await self._client.get(f"/chat/completions/{self._id}/events", cast_to=str)
            return list(_parsed(text))
        return []

    async def aclose(self) -> None:
        await self._client.close()


def _parsed(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and data of each event but chunks."""
    for frame in text.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in frame.splitlines())
        if "event" in fields and fields["event"] != "chunk":
            yield fields["event"], json.loads(fields.get("data") or "{}")
