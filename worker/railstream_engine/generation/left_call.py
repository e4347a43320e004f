"""A call that was left before its end, read on for the sake of its usage: the provider counts at the end of its stream.

What is read here goes nowhere. A read that was pending when the call was left is not cut with whoever waited for it:
that would close the upstream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from railstream.config.serving import UsageDrain
from railstream.errors import CallError
from railstream.events import Usage
from railstream.telemetry.recorded_call import RecordedCall
from railstream.tokens import output_estimate

from railstream_engine.providers.port import Delta, Part, TokenCount

Stream = AsyncGenerator[Sequence[Part], None]


class LeavableStream:
    """A provider's stream. ``aclose`` closes one that has ended or has not begun, and leaves any other one open."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._reading: asyncio.Task[Sequence[Part] | None] | None = None
        self._begun = False
        self._ended = False

    def __aiter__(self) -> AsyncIterator[Sequence[Part]]:
        return self

    async def __anext__(self) -> Sequence[Part]:
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        await asyncio.wait((self._reading,))
        reading, self._reading = self._reading, None
        parts = reading.result()
        if parts is None:
            raise StopAsyncIteration
        self._begun = True
        return parts

    async def _read(self) -> Sequence[Part] | None:
        try:
            parts = await anext(self._stream, None)
        except BaseException:
            self._ended = True
            raise
        self._ended = parts is None
        return parts

    @property
    def is_open(self) -> bool:
        """Whether it was left in the middle of its answer. A call that has not begun may not even have been sent."""
        return self._begun and not self._ended

    async def aclose(self) -> None:
        if not self.is_open:
            await self.close()

    async def close(self) -> None:
        """Close the upstream, whatever was read of it."""
        self._ended = True
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._stream.aclose()


@dataclass(frozen=True, slots=True)
class LeftCall:
    """``usage`` is what was recorded when it was left; ``turn`` holds the model's turn that the call still takes."""

    stream: LeavableStream
    recorded: RecordedCall
    usage: Usage
    turn: AsyncExitStack

    async def read_on(self, bounds: UsageDrain) -> Usage:
        """What is known of the call once its stream has ended, or a bound is met. Closes it in each case."""
        tokens: TokenCount | None = None
        chunks = characters = 0
        try:
            async with self.turn, asyncio.timeout(bounds.seconds):
                async for parts in self.stream:
                    for part in parts:
                        if type(part) is Delta:
                            chunks += 1
                            characters += part.size
                        elif isinstance(part, TokenCount):
                            tokens = part
                    if output_estimate(chunks, characters) > bounds.tokens:
                        break
        except (CallError, TimeoutError):
            pass  # what was counted by then stands
        finally:
            await self.stream.close()
        return self.recorded.count_on(tokens, chunks, characters)

    async def close(self) -> None:
        """Close it as it is."""
        async with self.turn:
            await self.stream.close()


Leave = Callable[[LeftCall], bool]
"""Takes a left call to read on; False when it is to be closed at once."""
