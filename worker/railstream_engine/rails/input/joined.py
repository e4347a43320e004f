"""Read texts that stand beside each other as the one text that a model may take them for.

They are read joined with a space and without one, whatever their number. A rail that looks at what stands around a
match (whole words, ``\\b``, lookarounds) also finds one that begins where a text begins and ends where one ends.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from railstream_engine.rails.judges.local_judges import IncrementalJudge
from railstream_engine.rails.matching.folding import SKIPPED_AT_ONCE
from railstream_engine.rails.matching.pieces import Piece
from railstream_engine.rails.tools.tool_texts import Blocked, read_arguments

MOST_STRETCHES: Final = 1024
"""Stretches of a sequence that are read one by one, of which each text begins `LEAST_STRETCH` less one at least."""
LEAST_STRETCH: Final = 4
_TURN: Final = 0.002  # seconds for which stretches follow each other before other streams have their turn


async def read_joined(rail: IncrementalJudge, texts: Sequence[str]) -> list[str]:
    """The texts as the rail leaves them. Raises ``Blocked``."""
    joined = list(texts)
    if rail.looks_around:
        joined = await _read_across(rail, joined)
    for separator in (" ", ""):
        joined = await _read_with(rail, joined, separator)
    return joined


async def _read_across(rail: IncrementalJudge, texts: list[str]) -> list[str]:
    pieces = await rail.read_across(texts)
    if pieces is None:
        return await _read_stretches(rail, texts)
    return texts if all(piece.as_is for piece in pieces) else distributed(texts, "", pieces)


async def _read_stretches(rail: IncrementalJudge, texts: list[str]) -> list[str]:
    """Each stretch as one text: what stands before and behind it may hide where a word ends."""
    joined, began = list(texts), time.perf_counter()
    edge = 2 * rail.reach + rail.context + 2 * SKIPPED_AT_ONCE
    longest = max(LEAST_STRETCH, MOST_STRETCHES // len(texts))
    for start in range(len(texts) - 1):
        between = 0
        for end in range(start + 2, min(len(texts), start + longest) + 1):
            if end - start > 2:
                between += len(joined[end - 2])
            if between > edge:
                break
            joined[start:end] = await _read_stretch(rail, joined[start:end], edge)
            if time.perf_counter() - began > _TURN:
                await asyncio.sleep(0)
                began = time.perf_counter()
    return joined


async def _read_stretch(rail: IncrementalJudge, texts: list[str], edge: int) -> list[str]:
    """Of its first text the end, and of its last one the beginning: what lies further is read with the whole."""
    first, last = texts[0], texts[-1]
    near = [first[-edge:], *texts[1:-1], last[:edge]]
    pieces = await rail.read("".join(near), exact=True)
    if pieces is None:
        raise Blocked
    if all(piece.as_is for piece in pieces):
        return texts
    read = distributed(near, "", pieces)
    return [first[:-edge] + read[0], *read[1:-1], read[-1] + last[edge:]]


async def _read_with(rail: IncrementalJudge, texts: list[str], separator: str) -> list[str]:
    whole = separator.join(texts)
    pieces = await rail.read(whole, exact=True)
    if pieces is None:
        raise Blocked
    if not all(piece.as_is for piece in pieces):
        return distributed(texts, separator, pieces)
    if "\\" in whole or whole.lstrip()[:1] in ("{", "["):
        return await _read_decoded(rail, texts, whole)
    return texts


async def _read_decoded(rail: IncrementalJudge, texts: list[str], whole: str) -> list[str]:
    """Some providers decode the JSON that texts are together: its strings are read too, without their escapes.

    What is masked in there has no place in a single text, so the first one takes all of it.
    """

    async def read(text: str) -> str | None:
        pieces = await rail.read(text)
        return None if pieces is None else "".join(piece.text for piece in pieces)

    decoded = await read_arguments(whole, read)
    return texts if decoded == whole else [decoded, *("" for _ in texts[1:])]


def distributed(texts: Sequence[str], separator: str, pieces: Sequence[Piece]) -> list[str]:
    """The texts as the pieces of their joined text leave them: what replaces a match stands where the match begins."""
    starts = list(accumulate((len(text) + len(separator) for text in texts[:-1]), initial=0))
    found: list[list[str]] = [[] for _ in texts]
    position = 0
    for piece in pieces:
        owner = bisect_right(starts, position) - 1
        end = position + piece.source
        if not piece.as_is:
            found[owner].append(piece.text)
        while piece.as_is and owner < len(texts) and starts[owner] < end:
            start = max(0, position - starts[owner])
            found[owner].append(texts[owner][start : end - starts[owner]])
            owner += 1
        position = end
    return ["".join(own) for own in found]
