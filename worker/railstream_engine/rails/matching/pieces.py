"""Pieces of text on their way out, each knowing how much of the model's text it stands for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Piece(NamedTuple):
    text: str
    source: int
    """Code points of the model's text that are settled with this piece."""
    as_is: bool
    """It is those code points, unchanged; only such a piece can be cut."""


class Ledger:
    """The pieces of a text that is held back, in order."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()

    def add(self, pieces: Iterable[Piece]) -> None:
        self._pieces.extend(pieces)

    def take(self, length: int) -> list[Piece]:
        """The next ``length`` characters. What a rewritten piece stands for is settled with its last character."""
        taken = []
        while length > 0:
            piece = self._pieces.popleft()
            if len(piece.text) > length:
                head, rest = cut(piece, length)
                self._pieces.appendleft(rest)
                piece = head
            length -= len(piece.text)
            taken.append(piece)
        while self._pieces and not self._pieces[0].text:  # deleted text leaves with what stood before it
            taken.append(self._pieces.popleft())
        return taken


_MANY = 64
"""Pieces from which on they leave as one: whoever takes a part of a long delta writes what is left of it again."""


def together(pieces: Sequence[Piece], most: int = _MANY) -> Sequence[Piece]:
    """A few pieces as they are; many as one, and what has no source yet behind it."""
    if len(pieces) <= most:
        return pieces
    settled = max((index for index, piece in enumerate(pieces, 1) if piece.source), default=0)
    text = "".join(piece.text for piece in pieces[:settled])
    as_is = all(piece.as_is for piece in pieces[:settled])
    return [Piece(text, sum(piece.source for piece in pieces), as_is), *pieces[settled:]]


def cut(piece: Piece, length: int) -> tuple[Piece, Piece]:
    text, source, as_is = piece
    if as_is:
        return Piece(text[:length], length, True), Piece(text[length:], source - length, True)
    return Piece(text[:length], 0, False), Piece(text[length:], source, False)
