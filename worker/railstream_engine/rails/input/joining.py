"""Read several texts as one with a local rail, and rewrite each of them where it stands.

The whole is read joined with a space and without one. What stands before and behind a word may hide where it begins and
ends (``so`` + ``tung`` + ``sten`` + ``it is``), so each stretch of neighbours is read by itself as well, as long as a
match can reach over it. Terms are found in all stretches by one pass.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from railstream_engine.rails.input.effort import Effort
from railstream_engine.rails.judges.local_judges import IncrementalJudge
from railstream_engine.rails.matching.bidi import has_override
from railstream_engine.rails.matching.pieces import Piece
from railstream_engine.rails.tools.tool_texts import Blocked, has_readings, next_reading, read_arguments, readings

MOST_OF_VALUES: Final = 2000
"""Stretches of a run of values that are read, if each text begins `LEAST_STRETCH` less one: a schema may list hundreds
of values, and no provider glues those."""
LEAST_STRETCH: Final = 4
"""Neighbours that are read by themselves wherever they stand: a long list hides nothing behind its first items."""


async def read_joined(rail: IncrementalJudge, texts: Sequence[str], effort: Effort, *, is_speech: bool) -> list[str]:
    """The texts as the rail leaves them.

    Raises:
        Blocked: the rail blocks them, or would rewrite what is only there once escapes of JSON are undone.
        RailError: there are more of their stretches than the rail reads of one request.
    """
    joined = list(texts)
    if (across := await _read_across(rail, joined, effort)) is not None:
        joined = across
    else:
        longest = len(joined) if is_speech else max(LEAST_STRETCH, MOST_OF_VALUES // len(joined))
        for start, end in stretches(joined, rail.reach, longest):
            if await _finds(rail, joined[start:end], effort):
                joined[start:end] = await _read_stretch(rail, joined[start:end], effort)
    for separator in (" ", ""):
        joined = await _read_with(rail, joined, separator, effort)
    await _read_escaped(rail, "".join(joined), effort)
    return joined


async def _read_across(rail: IncrementalJudge, texts: list[str], effort: Effort) -> list[str] | None:
    """All stretches at once; ``None`` where the rail cannot, or where a stretch may be read in another way too."""
    whole = "".join(texts)
    if "\\" in whole or has_override(whole):
        return None
    await effort.spend(whole)
    pieces = await rail.read_across(texts)
    if pieces is None or len(pieces) == 1:
        return None if pieces is None else texts
    return distributed(texts, "", pieces)


def stretches(texts: Sequence[str], reach: int, longest: int | None = None) -> Iterator[tuple[int, int]]:
    """Neighbours that a match may reach over from its first to its last, but for all of them together.

    ``longest``: the most texts of a stretch.
    """
    count = len(texts)
    for start in range(count - 1):
        between = 0
        for end in range(start + 2, min(count, start + (longest or count)) + 1):
            if end - start < count:
                yield start, end
            between += len(texts[end - 1])
            if between >= reach:
                break


async def _finds(rail: IncrementalJudge, texts: Sequence[str], effort: Effort) -> bool:
    """Whether the rail finds something that reaches over the first and the last of these texts."""
    reach = rail.reach
    first, last = texts[0], texts[-1]
    before, text = first[:-reach], first[-reach:] + "".join(texts[1:-1]) + last[: reach + 1]
    final = len(last) <= reach + 1
    await effort.spend(text)
    if await rail.finds(text, before=before, final=final):
        return True
    found = readings(text)
    while (reading := await next_reading(found, len(text))) is not None:
        await effort.spend(reading)
        if await rail.finds(reading, before=before, final=final):
            return True
    return False


async def _read_stretch(rail: IncrementalJudge, texts: Sequence[str], effort: Effort) -> list[str]:
    """Raises ``Blocked`` where what was found is only there in another reading than the plain one."""
    read = await _read_with(rail, texts, "", effort)
    if read == list(texts):
        raise Blocked
    return read


async def _read_with(rail: IncrementalJudge, texts: Sequence[str], separator: str, effort: Effort) -> list[str]:
    whole = separator.join(texts)
    await effort.spend(whole)
    pieces = await rail.read(whole, exact=True)
    if pieces is None:
        raise Blocked
    return distributed(texts, separator, pieces)


async def _read_escaped(rail: IncrementalJudge, text: str, effort: Effort) -> None:
    """JSON that is cut within an escape, and other readings of the whole: what they say stands in none of the texts."""
    if not has_readings(text):
        return

    async def read(text: str) -> str | None:
        await effort.spend(text)
        pieces = await rail.read(text)
        return None if pieces is None else "".join(piece.text for piece in pieces)

    if await read_arguments(text, read) != text:
        raise Blocked


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
