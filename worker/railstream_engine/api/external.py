"""An application's own token generator, in place of an LLM call.

Whatever it raises reaches the caller as it is, and it is closed when the answer is left or ends.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from railstream.errors import InvalidRequestError

from railstream_engine.providers.port import Delta, Finish, Part

_encode = msgspec.json.Encoder().encode

Item = str | Mapping[str, Any]


class External:
    def __init__(self, generator: AsyncIterator[Item]) -> None:
        if not hasattr(generator, "__aiter__"):
            kind = type(generator).__name__
            raise InvalidRequestError(f"generator must be an async iterator of strings, got {kind}", param="generator")
        self._generator = generator
        self.error: Exception | None = None
        self.metadata: dict[str, Any] = {}
        """What its dicts have said beside their text."""

    async def texts(self) -> AsyncGenerator[str, None]:
        try:
            async with _closing(self._generator):
                async for item in self._generator:
                    yield self._text(item)
        except Exception as error:
            self.error = error
            raise

    async def parts(self) -> AsyncGenerator[Sequence[Part], None]:
        """As a model would send them."""
        texts = self.texts()
        async with _closing(texts):
            async for text in texts:
                yield [Delta(0, _encode({"content": text}), text, exact=True)]
        yield [Finish(0, "stop", "stop")]

    def _text(self, item: Item) -> str:
        text = item
        if isinstance(item, Mapping):
            self.metadata |= item.get("metadata") or {}
            text = item.get("text", "")
        if not isinstance(text, str):
            raise TypeError(f"generator must yield strings or dicts with a text, got {type(item).__name__}")
        return text


@asynccontextmanager
async def _closing(generator: Any) -> AsyncGenerator[None, None]:
    """``contextlib.aclosing`` for any iterator: one that cannot be closed is left alone."""
    try:
        yield
    finally:
        if hasattr(generator, "aclose"):
            await generator.aclose()
