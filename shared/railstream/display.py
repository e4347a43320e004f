"""How to show a streamed answer: in pieces of a size, by time, by sentence, into a file, with progress.

Each takes an iterator of chunks or texts, such as ``model.invoke(…)`` or ``LLMRails.stream_async(…)``, and gives
texts; leaving it early closes what it reads. ``str()`` of an element is its text.

    async with aclosing(by_sentence(rails.stream_async(messages=messages))) as sentences:
        async for sentence in sentences:
            speak(sentence)
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

from railstream.errors import RailstreamError

_SENTENCE: Final = re.compile(r"(?:[.!?…]+[\"'”’)\]]*\s+|[。！？]+[”’」』）]*\s*|\n+)")  # noqa: RUF001  other scripts' marks
"""The end of a sentence, with the white space after it: without that, more may follow, as in ``3.14``."""


class Saying(Protocol):
    """An element of an answer: a string, or anything whose ``str()`` is its text."""

    def __str__(self) -> str: ...


Pieces = AsyncIterable[Saying]


async def by_size(pieces: Pieces, characters: int) -> AsyncGenerator[str, None]:
    """Texts of at least so many characters; the last one is what is left, also when the answer breaks off."""
    held = ""
    source = aiter(pieces)
    try:
        async for piece in source:
            held += str(piece)
            if len(held) >= characters:
                yield held
                held = ""
    except RailstreamError:
        if held:
            yield held
        raise
    finally:
        await _close(source)
    if held:
        yield held


async def by_time(pieces: Pieces, seconds: float) -> AsyncGenerator[str, None]:
    """What came within so many seconds of the first of it, as one text: never later than that, however slow the rest.

    The answer is read while this waits: one element ahead, so a slow reader slows the answer.
    """
    loop = asyncio.get_running_loop()
    source = aiter(pieces)
    reading: asyncio.Task[str | None] | None = None
    held, until = "", 0.0
    try:
        while True:
            reading = reading or asyncio.create_task(_next(source))
            wait = max(0.0, until - loop.time()) if held else None
            await asyncio.wait([reading], timeout=wait)
            if reading.done():
                done, reading = reading, None
                if done.exception() is not None and held:
                    yield held
                text = done.result()
                if text is None:
                    break
                until = until if held else loop.time() + seconds
                held += text
            if held and loop.time() >= until:
                yield held
                held = ""
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])
        await _close(source)
    if held:
        yield held


async def by_sentence(pieces: Pieces) -> AsyncGenerator[str, None]:
    """Whole sentences, with the white space that follows them; together they are the answer, character by character."""
    held = ""
    source = aiter(pieces)
    try:
        async for piece in source:
            held += str(piece)
            while (end := _SENTENCE.search(held)) is not None and end.end() < len(held):
                yield held[: end.end()]
                held = held[end.end() :]
    except RailstreamError:
        if held:
            yield held
        raise
    finally:
        await _close(source)
    if held:
        yield held


async def with_progress(pieces: Pieces, show: Callable[[int], object], *, every: int = 10) -> AsyncGenerator[str, None]:
    """The texts as they come; ``show`` is told how many there were, at every tenth, say, and at the end."""
    count = 0
    source = aiter(pieces)
    try:
        async for piece in source:
            text = str(piece)
            if text:
                count += 1
                if count % every == 0:
                    show(count)
            yield text
    finally:
        await _close(source)
        show(count)


async def to_file(pieces: Pieces, file: Path | str | TextIO) -> int:
    """Write each text as it comes and flush it, so that a reader of the file sees it now. Returns the characters.

    What came before an error stands in the file.
    """
    if isinstance(file, Path | str):
        with open(file, "w", encoding="utf-8") as opened:  # noqa: ASYNC230  a few bytes at a time
            return await _write(pieces, opened)
    return await _write(pieces, file)


async def _write(pieces: Pieces, file: TextIO) -> int:
    written = 0
    source = aiter(pieces)
    try:
        async for piece in source:
            written += file.write(str(piece))
            file.flush()
    finally:
        await _close(source)
    return written


@dataclass(frozen=True, slots=True)
class Collected:
    """``error`` when the answer broke off; ``text`` is what came before."""

    text: str
    error: RailstreamError | None = None


async def collected(pieces: Pieces, say: Callable[[str], object] = lambda _: None) -> Collected:
    """The whole text, or what came of it before an expected error. ``say`` gets each text as it comes.

    Errors that are not the answer's own are raised: they are faults of the program.
    """
    texts: list[str] = []
    source = aiter(pieces)
    try:
        async for piece in source:
            texts.append(str(piece))
            say(texts[-1])
    except RailstreamError as error:
        return Collected("".join(texts), error)
    finally:
        await _close(source)
    return Collected("".join(texts))


async def _next(source: AsyncIterator[Saying]) -> str | None:
    try:
        return str(await anext(source))
    except StopAsyncIteration:
        return None


async def _close(source: AsyncIterator[Any]) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()
