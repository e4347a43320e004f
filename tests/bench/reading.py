"""From the pieces that a socket brought to words with their times: after the load, so that it costs it nothing.

A stream is right when its text, the stamps taken out, is what the seed says: complete, in order, its own.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

import msgspec
from harness.http1 import Response
from railstream.testing import text

from bench.load import StreamSeen

STAMP = re.compile(r"~[a-j]+;")
Pieces = Sequence[tuple[int, bytes]]


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    error: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Chunk).decode


class Malformed(Exception):
    """The response is no stream of chunks."""


def read(pieces: Pieces, seen: StreamSeen, expected: str) -> StreamSeen:
    """Fill in what a stream's pieces say; ``seen.error`` tells what is wrong with them."""
    try:
        texts = list(_texts(pieces))
    except Malformed as error:
        seen.error = str(error)
        return seen
    said = "".join(part for _, part in texts)
    seen.first = next((arrived for arrived, part in texts if part), 0)
    _match_stamps(said, texts, seen)
    if (plain := text.unstamped(said)) != expected:
        seen.error = f"{len(plain)} characters came, {len(expected)} were meant: …{plain[-60:]!r}"
    return seen


def _match_stamps(said: str, texts: Sequence[tuple[int, str]], seen: StreamSeen) -> None:
    """A word has arrived with the piece that brings the end of its stamp."""
    ends, length = [], 0
    for _, part in texts:
        length += len(part)
        ends.append(length)
    for found in STAMP.finditer(said):
        arrived = texts[bisect_left(ends, found.end())][0]
        seen.arrivals.append(arrived)
        seen.latencies.append(arrived - next(text.stamps(found.group())))


def _texts(pieces: Pieces) -> list[tuple[int, str]]:
    """The text of each chunk, and when its last byte came."""
    head, _, rest = b"".join(data for _, data in pieces).partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise Malformed(f"answered {head[:40]!r}: {rest[:300]!r}")
    texts, done, last = [], False, b""
    for arrived, frame in _frames(pieces):
        last = data = _data(frame)
        if data == b"[DONE]":
            done = True
        elif data:
            texts.append((arrived, _text(data)))
    if not done:
        raise Malformed(f"no [DONE] at the end: …{last[-200:]!r}")
    return texts


def _frames(pieces: Pieces) -> Iterator[tuple[int, bytes]]:
    """Each frame of the body, and when the piece came that ended it."""
    response, rest = Response(), b""
    for arrived, data in pieces:
        *frames, rest = b"".join([rest, *response.feed(data)]).split(b"\n\n")
        yield from ((arrived, frame) for frame in frames)


def _data(frame: bytes) -> bytes:
    return b"".join(line[5:].strip() for line in frame.split(b"\n") if line.startswith(b"data:"))


def _text(data: bytes) -> str:
    try:
        chunk = _decode(data)
    except msgspec.MsgspecError as error:
        raise Malformed(f"not a chunk ({error}): {data[:200]!r}") from error
    if bytes(chunk.error) != b"null":
        raise Malformed(f"an error in the stream: {bytes(chunk.error)[:300]!r}")
    return "".join(choice.delta.content or "" for choice in chunk.choices)
