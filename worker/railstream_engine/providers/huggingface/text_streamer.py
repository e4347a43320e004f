"""Text of a `transformers` generation, from the thread that generates to the event loop that reads.

What `transformers` has itself hangs its reader when `generate` raises, and must be made inside the loop that reads;
NVIDIA's of the same name says the last text twice and never ends. This one ends, once, with its last text.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from importlib import import_module
from typing import Any


def load_transformers() -> Any:
    """Raises ``ImportError`` that names the extra."""
    try:
        return import_module("transformers")
    except ImportError as error:
        message = f"transformers is needed: pip install 'railstream[huggingface]' ({error})"
        raise ImportError(message, name="transformers") from error


class AsyncTextIteratorStreamer:
    """Give it to ``generate`` or to a pipeline as ``streamer``, and iterate over it in any event loop.

    ``timeout``: seconds between two texts, after which ``TimeoutError`` is raised; ``None`` waits as long as it takes.
    ``decode_kwargs`` go to the tokenizer. It can be made before any loop runs, and be used for one generation after
    the other, not for two at once.
    """

    def __init__(
        self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode_kwargs: Any
    ) -> None:
        transformers = load_transformers()
        self.skip_prompt = skip_prompt
        self.decode_kwargs = decode_kwargs
        self.timeout = timeout
        self._words = transformers.TextIteratorStreamer(tokenizer, skip_prompt=skip_prompt, **decode_kwargs)
        self._words.on_finalized_text = self.on_finalized_text
        self._texts: deque[str | None] = deque()
        self._lock = threading.Lock()
        self._reader: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def put(self, value: Any) -> None:
        """Tokens, from the thread that generates."""
        self._words.put(value)

    def end(self) -> None:
        """The generation is over: the rest of the text, then the end."""
        self._words.end()

    def abandon(self) -> None:
        """End without the rest, because the generation failed."""
        self._words.token_cache, self._words.print_len, self._words.next_tokens_are_prompt = [], 0, True
        self._append(None)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text:
            self._append(text)
        if stream_end:
            self._append(None)

    def _append(self, text: str | None) -> None:
        with self._lock:
            self._texts.append(text)
            if self._reader is not None:
                loop, arrived = self._reader
                if not loop.is_closed():
                    loop.call_soon_threadsafe(arrived.set)

    def __aiter__(self) -> AsyncTextIteratorStreamer:
        return self

    async def __anext__(self) -> str:
        async with asyncio.timeout(self.timeout):
            text = await self._next()
        if text is None:
            raise StopAsyncIteration
        return text

    async def _next(self) -> str | None:
        arrived = asyncio.Event()
        while True:
            with self._lock:
                if self._texts:
                    self._reader = None
                    return self._texts.popleft()
                arrived.clear()
                self._reader = asyncio.get_running_loop(), arrived
            await arrived.wait()
