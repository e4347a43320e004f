"""The characters that a match of a pattern can begin with: a delta that has none of them needs no search.

They are read off the pattern's parse tree. `None` stands for any character: what the standard library reads
differently from `regex`, and what can begin with more than a set should hold, is searched always.
"""

from __future__ import annotations

import importlib
import sys
from array import array
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import regex

from railstream_engine.rails.matching.open_ended import tokens

MOST = 2048
"""Characters of a set. A class of letters has a hundred thousand, and is in every delta."""
_LAST = 0x3FFFF
"""Beyond are no digits, no white space and no letters of two cases."""
_SCOPE = regex.IGNORECASE | regex.ASCII | regex.UNICODE
_CATEGORIES = {"CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s"}
_NUMBER = regex.compile(r"\{\d*,?\d*\}")
_TRANSPARENT = ("AT", "ASSERT", "ASSERT_NOT")

Members = frozenset[str]
"""Of a character class, as they are written in it."""


def first_characters(patterns: Iterable[tuple[str, int]]) -> frozenset[str] | None:
    """Of every match of any of these, each with the flags that `regex` has compiled it with."""
    return any_of(tuple(_of_one(pattern, flags) for pattern, flags in patterns))


@lru_cache(maxsize=256)
def any_of(sets: tuple[frozenset[str] | None, ...]) -> frozenset[str] | None:
    """What is in one of them; ``None`` where one of them is any, or where that would be too many."""
    known = [one for one in sets if one is not None]
    together = frozenset[str]().union(*known)
    return together if len(known) == len(sets) and len(together) <= MOST else None


def _of_one(pattern: str, flags: int) -> frozenset[str] | None:
    if flags & (regex.FULLCASE | regex.V1) or _reads_differently(pattern, bool(flags & regex.VERBOSE)):
        return None
    parser: Any = importlib.import_module("re._parser")
    try:
        members, may_be_empty = _first(parser.parse(pattern, flags & (regex.IGNORECASE | regex.VERBOSE)))
    except (_Any, ValueError, OverflowError, parser.error):
        return None
    return None if may_be_empty else any_of(tuple(_enumerated(one, flags & _SCOPE) for one in members))


class _Any(Exception):
    """A match may begin with whatever there is."""


def _reads_differently(pattern: str, verbose: bool) -> bool:
    """Fuzzy matches (``{e<=1}``) and classes of POSIX mean something else to the standard library."""
    parts = tokens(pattern, verbose)
    plain = "".join("." if len(part) > 1 else part for part in parts)
    return "[:" in pattern or "{" in _NUMBER.sub("", plain)


def _first(tree: Iterable[tuple[Any, Any]]) -> tuple[Members, bool]:
    """The members that what this matches can begin with, and whether it can match nothing."""
    members: set[str] = set()
    for operation, argument in tree:
        name = str(operation)
        if name in _TRANSPARENT:
            continue
        if name not in _READERS:
            raise _Any
        more, may_be_empty = _READERS[name](argument)
        members |= more
        if not may_be_empty:
            return frozenset(members), False
    return frozenset(members), True


def _literal(code: int) -> tuple[Members, bool]:
    return frozenset((_written(code),)), False


def _class(items: list[tuple[Any, Any]]) -> tuple[Members, bool]:
    return frozenset(_member(str(operation), argument) for operation, argument in items), False


def _member(name: str, argument: Any) -> str:
    if name == "LITERAL":
        return _written(argument)
    if name == "RANGE":
        return f"{_written(argument[0])}-{_written(argument[1])}"
    if name == "CATEGORY" and str(argument) in _CATEGORIES:
        return _CATEGORIES[str(argument)]
    raise _Any


def _group(argument: tuple[Any, int, int, Any]) -> tuple[Members, bool]:
    _, added, removed, tree = argument
    if added or removed:
        raise _Any
    return _first(tree)


def _branch(argument: tuple[None, list[Any]]) -> tuple[Members, bool]:
    branches = [_first(tree) for tree in argument[1]]
    return frozenset[str]().union(*(members for members, _ in branches)), any(empty for _, empty in branches)


def _repeat(argument: tuple[int, int, Any]) -> tuple[Members, bool]:
    least, _, tree = argument
    members, may_be_empty = _first(tree)
    return members, may_be_empty or not least


_READERS: dict[str, Callable[[Any], tuple[Members, bool]]] = {
    "LITERAL": _literal,
    "IN": _class,
    "SUBPATTERN": _group,
    "ATOMIC_GROUP": _first,
    "BRANCH": _branch,
    "MAX_REPEAT": _repeat,
    "MIN_REPEAT": _repeat,
    "POSSESSIVE_REPEAT": _repeat,
}


def _written(code: int) -> str:
    if code > _LAST:
        raise _Any
    return rf"\U{code:08x}"


@lru_cache(maxsize=1024)
def _enumerated(member: str, flags: int) -> frozenset[str]:
    everything = array("I", range(_LAST + 1)).tobytes().decode(f"utf-32-{sys.byteorder[0]}e", "surrogatepass")
    return frozenset(regex.findall(f"[{member}]", everything, flags))
