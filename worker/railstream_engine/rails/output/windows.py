"""Cut a text that is still being written into windows: some context that was judged before, and what is new.

Sizes count deltas. `DocumentedWindows` are what NeMo Guardrails' manual draws, `RollingWindows` what its release 0.24
does; `RollingBuffer` is the latter under NeMo's name, over a stream of strings.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

Item = TypeVar("Item")


class Window(NamedTuple, Generic[Item]):
    context: Sequence[Item]
    """Judged before; judged again together with what is new."""
    new: Sequence[Item]


class Windows(Protocol[Item]):
    def prime(self, items: Sequence[Item]) -> None:
        """What was there before the text: context of its first window."""

    def add(self, item: Item) -> Window[Item] | None:
        """One more delta; the window that it completes."""

    def end(self) -> Window[Item] | None:
        """What remains."""


class DocumentedWindows(Generic[Item]):
    """``context_size`` judged deltas, then up to ``chunk_size`` new ones; the first chunks are smaller."""

    def __init__(self, chunk_size: int, context_size: int, *, first: int | None = None, growth: float = 2.0) -> None:
        self._chunk_size = chunk_size
        self._size = chunk_size if first is None else min(first, chunk_size)
        self._growth = growth
        self._context: deque[Item] = deque(maxlen=context_size)
        self._new: list[Item] = []

    def prime(self, items: Sequence[Item]) -> None:
        self._context.extend(items)

    def add(self, item: Item) -> Window[Item] | None:
        self._new.append(item)
        if len(self._new) < self._size:
            return None
        self._size = min(self._chunk_size, math.ceil(self._size * self._growth))
        return self._cut()

    def end(self) -> Window[Item] | None:
        return self._cut() if self._new else None

    def _cut(self) -> Window[Item]:
        window = Window(tuple(self._context), self._new)
        self._context.extend(self._new)
        self._new = []
        return window


class RollingWindows(Generic[Item]):
    """NeMo 0.24, to the letter: after the first window it moves on by ``chunk_size - context_size``, and with a
    ``context_size`` of 0 (or of ``chunk_size`` and more) by a single delta, keeping everything that came before."""

    def __init__(self, chunk_size: int, context_size: int) -> None:
        self._chunk_size = chunk_size
        self._context_size = context_size
        self._buffer: list[Item] = []
        self._unreleased = 0

    def prime(self, items: Sequence[Item]) -> None:
        self._buffer = list(items[-self._context_size :])

    def add(self, item: Item) -> Window[Item] | None:
        self._buffer.append(item)
        self._unreleased += 1
        if len(self._buffer) < self._chunk_size:
            return None
        checked = self._buffer[-self._chunk_size - self._context_size :]
        new = min(self._chunk_size, self._unreleased)
        window = Window(checked[: len(checked) - new], checked[len(checked) - new :])
        self._unreleased -= new
        self._buffer = self._buffer[-self._context_size :]
        return window

    def end(self) -> Window[Item] | None:
        if not self._buffer:
            return None
        known = len(self._buffer) - self._unreleased
        window = Window(self._buffer[:known], self._buffer[known:])
        self._buffer, self._unreleased = [], 0
        return window


class ChunkBatch(NamedTuple):
    processing_context: list[str]
    user_output_chunks: list[str]


class RollingBuffer:
    """NeMo's buffer strategy: batches of chunks to check, and of those to show."""

    def __init__(self, buffer_context_size: int = 5, buffer_chunk_size: int = 10) -> None:
        for name, size in (("buffer_context_size", buffer_context_size), ("buffer_chunk_size", buffer_chunk_size)):
            if size < 0:
                raise ValueError(f"{name} must be non-negative")
        self.buffer_context_size = buffer_context_size
        self.buffer_chunk_size = buffer_chunk_size
        self.total_yielded = 0

    @classmethod
    def from_config(cls, config: Any) -> RollingBuffer:
        return cls(buffer_context_size=config.context_size, buffer_chunk_size=config.chunk_size)

    async def process_stream(self, streaming_handler: AsyncIterable[Any]) -> AsyncGenerator[ChunkBatch, None]:
        self.total_yielded = 0
        windows: RollingWindows[str] = RollingWindows(self.buffer_chunk_size, self.buffer_context_size)
        async for chunk in streaming_handler:
            window = windows.add(chunk["text"] if isinstance(chunk, dict) else chunk)
            if window is not None:
                yield self._batch(window)
        window = windows.end()
        if window is not None:
            yield self._batch(window)

    def _batch(self, window: Window[str]) -> ChunkBatch:
        self.total_yielded += len(window.new)
        return ChunkBatch([*window.context, *window.new], list(window.new))

    def __call__(self, streaming_handler: AsyncIterable[Any]) -> AsyncGenerator[ChunkBatch, None]:
        return self.process_stream(streaming_handler)

    def format_chunks(self, chunks: Sequence[str]) -> str:
        return "".join(chunks)
