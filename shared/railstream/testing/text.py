"""Text that a seed decides, so that an oracle can say what a whole answer must be, and stamps of send times.

``words(seed, n)`` is a prefix of ``words(seed, m)`` for every larger ``m``; joined, its words are the text.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

Seed = int | str

_WORDS = (
    "rail stream worker token river signal ember quiet copper lantern window meadow harbor violet timber canyon "
    "market anchor velvet summit orchard pebble ribbon thunder willow saddle beacon marble garden castle feather "
    "island journey kettle ladder mirror needle oyster pocket quarry rocket shadow temple umbra valley walnut "
    "yonder zephyr, bridge. candle; desert: engine, forest. glacier, hollow. naïve Zürich façade größer señor "
    "流れ 東京 поезд 🚂 👩‍🚀"
)
_VOCABULARY = tuple(_WORDS.split())

_STAMP = re.compile(r"~([a-j]+);")
_CUT_STAMP = re.compile(r"~[a-j]*;?")
_TO_LETTERS = str.maketrans("0123456789", "abcdefghij")
_TO_DIGITS = str.maketrans("abcdefghij", "0123456789")


@lru_cache(maxsize=256)
def words(seed: Seed, n: int) -> tuple[str, ...]:
    """The first ``n`` words of the seed's endless text, each but the first with the space before it."""
    draw = random.Random(seed if isinstance(seed, str) else str(seed)).random
    drawn = [" " + _VOCABULARY[int(draw() * len(_VOCABULARY))] for _ in range(n)]
    if drawn:
        drawn[0] = drawn[0][1:]
    return tuple(drawn)


def text(seed: Seed, n: int) -> str:
    return "".join(words(seed, n))


def split(whole: str, piece: int = 0) -> tuple[str, ...]:
    """``whole`` in pieces of so many characters; 0: in words, each with the white space before it."""
    if piece:
        return tuple(whole[start : start + piece] for start in range(0, len(whole), piece))
    return tuple(re.findall(r"\s*\S+\s*\Z|\s*\S+|\s+", whole))


def after(pieces: Sequence[str], prefix: str) -> tuple[str, ...] | None:
    """What is left of ``pieces`` once ``prefix`` was said; ``None`` when they do not begin with it."""
    said = 0
    for number, piece in enumerate(pieces):
        if said == len(prefix):
            return tuple(pieces[number:])
        if not prefix.startswith(piece, said):
            left = prefix[said:]
            return (piece[len(left) :], *pieces[number + 1 :]) if piece.startswith(left) else None
        said += len(piece)
    return () if said == len(prefix) else None


def stamp(now: int | None = None) -> str:
    """``~<monotonic ns>;`` in letters: no rail takes it for a phone or card number."""
    return f"~{str(time.monotonic_ns() if now is None else now).translate(_TO_LETTERS)};"


def stamps(stamped: str) -> Iterator[int]:
    """The send times in a text, in monotonic nanoseconds of the machine that the server ran on."""
    for match in _STAMP.finditer(stamped):
        yield int(match[1].translate(_TO_DIGITS))


def unstamped(stamped: str) -> str:
    """The text without its stamps, cut ones included: what the oracle compares."""
    return _CUT_STAMP.sub("", stamped)


def count(texts: Iterable[str]) -> int:
    """Tokens of a prompt, as this server counts them: words, told by their spaces."""
    return sum(piece.count(" ") + 1 for piece in texts if piece)
