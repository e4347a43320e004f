"""`StreamingHandler`: chunks are pushed in on one side and iterated on the other, without prefix, suffix and stop.

It always ends: with `finish`, with the end marker or at a stop string, whatever was still held back. Deprecated in
favour of `LLMRails.stream_async`, as in NeMo Guardrails.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
import warnings
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from railstream_engine.api.pattern import Pattern

log = logging.getLogger(__name__)

Metadata = dict[str, Any]
Element = str | dict[str, Any]


class _EndOfStream:
    def __repr__(self) -> str:
        return "END_OF_STREAM"


END_OF_STREAM: Final = _EndOfStream()
GREEN, PLAIN = "\033[92m", "\033[0m"


class StreamingHandler(AsyncIterator[Element]):
    """``enable_print`` prints chunks as they leave. ``enable_buffer`` gathers them until `disable_buffering`.

    With ``include_metadata`` the elements are dicts: ``{"text": …}``, with ``metadata`` where some came with the
    text, and at the end ``{"text": "", "metadata": {"response_metadata": …, "usage_metadata": …, …}}``.
    """

    def __init__(
        self,
        enable_print: bool = False,
        enable_buffer: bool = False,
        include_metadata: bool | None = False,
        include_generation_metadata: bool | None = None,
    ) -> None:
        if include_generation_metadata is not None:
            warnings.warn(
                "include_generation_metadata is deprecated, use include_metadata instead.",
                DeprecationWarning,
                stacklevel=2,
            )
            include_metadata = include_generation_metadata
        self.uid = str(uuid.uuid4())
        self.enable_print = enable_print
        self.enable_buffer = enable_buffer
        self.include_metadata = bool(include_metadata)
        self.completion = ""
        """What has left so far."""
        self.buffer = ""
        self.k = 0
        self.pipe_to: StreamingHandler | None = None
        self.streaming_finished_event = asyncio.Event()
        self.top_k_nonempty_lines_event = asyncio.Event()
        self.queue: asyncio.Queue[Element | _EndOfStream] = asyncio.Queue()
        self._pattern = Pattern()
        self._fresh: Metadata = {}
        self._metadata: Metadata = {}
        self._left = False

    @property
    def stop(self) -> list[str]:
        """Texts that end the stream; they are not part of it."""
        return self._pattern.stop

    @stop.setter
    def stop(self, stop: Sequence[str] | None) -> None:
        self._pattern.stop = list(stop or ())

    @property
    def prefix(self) -> str | None:
        return self._pattern.prefix

    @property
    def suffix(self) -> str | None:
        return self._pattern.suffix

    def set_pattern(self, prefix: str | None = None, suffix: str | None = None) -> None:
        """Take a prefix and a suffix off the text. One that does not come leaves the text as it is."""
        self._pattern.prefix, self._pattern.suffix = prefix, suffix

    def set_pipe_to(self, another_handler: StreamingHandler) -> None:
        """From now on chunks go there, in their order; who iterates here sees the end only."""
        self.pipe_to = another_handler

    async def wait(self) -> str:
        """Wait for the end. Returns the whole text, also what still stands in the buffer."""
        await self.streaming_finished_event.wait()
        return self.completion + self.buffer

    async def wait_top_k_nonempty_lines(self, k: int) -> str:
        """Wait until ``k`` lines stand complete in the buffer, or for the end; take them out and return them.

        Empty lines and comments (``#``) do not count, and go too.
        """
        self.k = k
        self._note_lines()
        await self.top_k_nonempty_lines_event.wait()
        lines = self.buffer.split("\n")
        found: list[str] = []
        taken = 0
        for line in lines:
            if len(found) == k:
                break
            taken += 1
            if _counts(line):
                found.append(line)
        self.buffer = "\n".join(lines[taken:])
        return "\n".join(found)

    async def enable_buffering(self) -> None:
        self.enable_buffer, self.buffer = True, ""

    async def disable_buffering(self) -> None:
        """Let the buffer go on as one chunk."""
        text, self.buffer, self.enable_buffer = self.buffer, "", False
        if text:
            await self._process(text)
        if self.streaming_finished_event.is_set():
            await self._leave()

    async def push_chunk(self, chunk: str | _EndOfStream | None, metadata: Metadata | None = None) -> None:
        """More text; ``None`` is the end. What comes after the end is ignored.

        Raises:
            TypeError: it is neither.
        """
        if chunk is not None and not isinstance(chunk, str | _EndOfStream):
            raise TypeError(f"StreamingHandler.push_chunk() expects str, got {type(chunk).__name__}")
        if self.streaming_finished_event.is_set():
            log.debug("%s: a chunk after the end is ignored", self.uid[:3])
            return
        if self.include_metadata and metadata:
            self._fresh |= metadata
            self._metadata |= metadata
        if not isinstance(chunk, str):
            await self._end()
        elif self.enable_buffer:
            self.buffer += chunk
            self._note_lines()
        else:
            await self._process(chunk)

    async def finish(self) -> None:
        """The end. A handler that has ended already is left as it is."""
        await self.push_chunk(END_OF_STREAM)

    def __aiter__(self) -> StreamingHandler:
        return self

    async def __anext__(self) -> Element:
        element = await self.queue.get()
        if isinstance(element, _EndOfStream):
            self.queue.put_nowait(element)  # so that asking again ends again
            raise StopAsyncIteration
        return element

    async def _process(self, chunk: str) -> None:
        text, stopped = self._pattern.feed(chunk)
        if text is not None:
            await self._release(text)
        if stopped and not self.streaming_finished_event.is_set():
            await self._end()

    async def _end(self) -> None:
        self.streaming_finished_event.set()
        self.top_k_nonempty_lines_event.set()
        if not self.enable_buffer:
            await self._leave()

    async def _leave(self) -> None:
        """The last of the text, and the end."""
        if self._left:
            return
        self._left = True
        rest = self._pattern.flush()
        if rest:
            await self._release(rest)
        if self.pipe_to is not None:
            await self.pipe_to.push_chunk(END_OF_STREAM, self._fresh)
        elif self.include_metadata:
            known = {"response_metadata": None, "usage_metadata": None}
            self.queue.put_nowait({"text": "", "metadata": known | self._metadata})
        if self.enable_print:
            print()
        self.queue.put_nowait(END_OF_STREAM)

    async def _release(self, text: str) -> None:
        self.completion += text
        fresh, self._fresh = self._fresh, {}
        if self.pipe_to is not None:
            await self.pipe_to.push_chunk(text, fresh)
            return
        if self.enable_print:
            print(f"{GREEN}{text}{PLAIN}", end="", flush=True)
        if self.include_metadata:
            self.queue.put_nowait({"text": text, "metadata": fresh} if fresh else {"text": text})
        else:
            self.queue.put_nowait(text)

    def _note_lines(self) -> None:
        """Whether ``k`` lines are complete: a further one has begun."""
        complete = sum(map(_counts, self.buffer.split("\n"))) > self.k > 0
        if complete or self.streaming_finished_event.is_set():
            self.top_k_nonempty_lines_event.set()
        else:
            self.top_k_nonempty_lines_event.clear()


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.strip().startswith("#")
