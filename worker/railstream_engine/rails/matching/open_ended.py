"""Rewrite a pattern so that every look past the end of the text is seen as a partial match.

`regex` finds a partial match where the text ends inside a literal, a class or a lookahead, but an assertion that is
evaluated *at* the end (``\\b``, ``$``) takes the end for the end of the text, though in a stream more is to come.
Each such assertion therefore gets a first branch that wants one more character and then fails: at the end of what
has arrived it runs off it (a partial match), anywhere else it changes nothing. So does a lookbehind behind a lazy
quantifier: with the text's end `regex` gives up there, where the quantifier could take more.
"""

from __future__ import annotations

import importlib
from itertools import pairwise
from typing import Any

from railstream.errors import ConfigurationError

_MORE = r"[\s\S](?!)"
_OPEN = {
    r"\b": rf"(?:{_MORE}|\b)",
    r"\B": rf"(?:{_MORE}|\B)",
    r"\m": rf"(?:{_MORE}|\m)",
    r"\M": rf"(?:{_MORE}|\M)",
    r"\Z": rf"(?:{_MORE}|\Z)",
    r"\z": rf"(?:{_MORE}|\Z)",
    "$": rf"(?:\n?{_MORE}|$)",  # also true before a last newline, so the character after that counts too
}
_QUANTIFIERS = ("*", "+", "?", "}")
_LOOKBEHINDS = (["(", "?", "<", "="], ["(", "?", "<", "!"])
_UNSUPPORTED = ("(*", "(?R", "(?0", "(?1", "(?&", "(?P>", "(?(", r"\G", r"\X", r"\K", "(?r", "(?e", "(?b", "(?V")
LOOKAHEADS = ("(?=", "(?!")
# A choice that is never taken back may change when more text arrives, and so may what follows it.
COMMITTING = ("(?>", "*+", "++", "?+", "}+")


def tokens(pattern: str, verbose: bool) -> list[str]:
    """The pattern cut at its escapes, character classes and single characters; comments of a verbose one left out."""
    found: list[str] = []
    at = 0
    while at < len(pattern):
        width = _width(pattern, at)
        token = pattern[at : at + width]
        at += width
        if verbose and token == "#":
            newline = pattern.find("\n", at)
            at = len(pattern) if newline < 0 else newline
        elif not (verbose and token.isspace()):
            found.append(token)
    return found


def _width(pattern: str, at: int) -> int:
    if pattern[at] == "\\":
        return 2
    if pattern.startswith("(?#", at):
        return pattern.index(")", at) + 1 - at
    if pattern[at] != "[":
        return 1
    end = at + 1 + pattern.startswith("^", at + 1)
    end += pattern.startswith("]", end)  # a bracket in first place is a literal
    while end < len(pattern) and pattern[end] != "]":
        if pattern.startswith("[:", end):
            end = pattern.index(":]", end) + 2
        else:
            end += 2 if pattern[end] == "\\" else 1
    return end + 1 - at


def opened(pattern: str, verbose: bool) -> tuple[str, bool]:
    """The rewritten pattern, and whether what follows a match can still undo it."""
    parts = tokens(pattern, verbose)
    plain = "".join("." if len(part) > 1 and part[0] == "[" else part for part in parts)
    for construct in _UNSUPPORTED:
        if construct in plain:
            raise ConfigurationError(f"pattern {pattern!r} uses {construct!r}, which cannot be followed in a stream")
    wary = any(part in _OPEN for part in parts) or any(mark in plain for mark in (*LOOKAHEADS, *COMMITTING))
    lazy = _first_lazy(parts)
    late = [at for at in range(lazy, len(parts)) if parts[at : at + 4] in _LOOKBEHINDS]
    rewritten = [_OPEN.get(part, part) for part in parts]
    for at in late:
        rewritten[at] = f"(?:{_MORE}|)("
    return "".join(rewritten), wary or bool(late)


def _first_lazy(parts: list[str]) -> int:
    """Where the first quantifier ends that takes as little as it can; behind the pattern when there is none."""
    pairs = enumerate(pairwise(parts), 2)
    return next((at for at, (one, next_) in pairs if next_ == "?" and one in _QUANTIFIERS), len(parts))


def widths(pattern: str, flags: int) -> tuple[int, int] | None:
    """The least and the greatest length of a match, assertions not counted; ``None`` when they cannot be told."""
    parser: Any = importlib.import_module("re._parser")
    try:
        least, most = parser.parse(pattern, flags).getwidth()
    except (ValueError, OverflowError, parser.error):  # a construct that only `regex` knows
        return None
    return int(least), int(most)


def most_ways(pattern: str) -> tuple[int, bool]:
    """How many parts of it can match more or less, and whether one of them repeats another.

    The ways in which a text can be read grow with the text's length to the power of the first, and without a bound
    where the second is true.
    """
    parser: Any = importlib.import_module("re._parser")
    try:
        return _ways(parser.parse(pattern), False)
    except (ValueError, OverflowError, parser.error):
        return 99, True


def _ways(tree: Any, repeated: bool) -> tuple[int, bool]:
    """The parse tree is walked as it is: tuples and lists of operations and their arguments."""
    if isinstance(tree, str | int | None):
        return 0, False
    choice = isinstance(tree, tuple) and len(tree) == 2 and str(tree[0]) in _CHOICES
    repeats = choice and str(tree[0]) != "BRANCH"
    again = repeated or (repeats and tree[1][1] > 1)
    inside = [_ways(part, again) for part in (tree[1] if choice else tree)]
    count = sum(ways for ways, _ in inside) + (repeats and tree[1][0] != tree[1][1])
    return count, (choice and repeated) or any(nested for _, nested in inside)


_CHOICES = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT", "BRANCH")
