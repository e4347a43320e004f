"""The reason of a verdict as the log of rails shows it: a short line that quotes nothing of the text that was judged.

A reason comes from a judging model's answer or from an action, and either may quote what a rail has just blocked. It
goes to the log of rails, which a client may ask for.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, Final

from railstream.messages import texts_in

MOST: Final = 200
"""Characters."""
SHORTEST_QUOTE: Final = 4
"""Characters of a word from which on it is a quotation where the text has it too."""
PIECE: Final = 6
"""Characters of a longer word that make it a quotation where the text has them in a row."""
QUOTED: Final = "…"
MOST_CATEGORIES: Final = 16
_CATEGORY: Final = re.compile(r"[A-Za-z][A-Za-z /_&()-]{0,39}[0-9]{0,2}")
_AROUND: Final = string.punctuation + "\u2026\u201c\u201d\u2018\u2019\u00ab\u00bb"


def shown(reason: str, text: str, messages: Sequence[Mapping[str, Any]] = ()) -> str:
    """The reason of a verdict on ``text``, in a conversation of these messages."""
    judged = _judged(text, messages)
    printable = "".join(one if one.isprintable() else " " for one in reason[: 2 * MOST])
    words = [QUOTED if _is_quoted(word, judged) else word for word in printable.split()]
    line = " ".join(words)
    return line if len(line) <= MOST else line[: MOST - 1] + QUOTED


def named(categories: Sequence[str], text: str, messages: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """The categories of a verdict on ``text`` that have the form of a name, and of which no word stands in the text."""
    judged = _judged(text, messages)
    names = [one for one in categories if _CATEGORY.fullmatch(one)]
    return [one for one in names if not any(_is_quoted(word, judged) for word in one.split())][:MOST_CATEGORIES]


def _judged(text: str, messages: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join((text, *(one.text for message in messages for one in texts_in(message)))).casefold()


def _is_quoted(word: str, judged: str) -> bool:
    core = word.strip(_AROUND).casefold()
    if len(core) < SHORTEST_QUOTE or core in judged:
        return len(core) >= SHORTEST_QUOTE
    pieces = (core[at : at + PIECE] for at in range(len(core) - PIECE + 1))
    return any(piece in judged for piece in pieces)
