"""Log probabilities of a guarded delta, built anew from closed fields: they say nothing that its text does not say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

_KINDS: Final = ("content", "refusal")
_encode = msgspec.json.Encoder().encode


class _Token(msgspec.Struct, gc=False):
    token: str
    logprob: float | None = None


class _Entry(_Token, gc=False):
    top_logprobs: list[_Token] | None = None


class _Logprobs(msgspec.Struct, gc=False):
    content: list[_Entry] | None = None
    refusal: list[_Entry] | None = None


_decode = msgspec.json.Decoder(_Logprobs).decode


def entries_of(logprobs: bytes, kind: str, text: str) -> list[_Entry]:
    """The entries of a delta's ``content`` or ``refusal``, if their tokens are its text; none of any other."""
    try:
        found = getattr(_decode(logprobs), kind, None) or []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    return found if text and "".join(entry.token for entry in found) == text else []


def rebuilt(kind: str, entries: Sequence[_Entry], allowed: Sequence[Sequence[bool]]) -> bytes:
    """The ``logprobs`` object of these entries. ``allowed``: for each, which of its alternatives may leave."""
    written = [_entry(entry, marks) for entry, marks in zip(entries, allowed, strict=True)]
    return _encode({name: written if name == kind else None for name in _KINDS})


def _entry(entry: _Entry, allowed: Sequence[bool]) -> dict[str, Any]:
    others = zip(entry.top_logprobs or (), allowed, strict=True)
    return _token(entry) | {"top_logprobs": [_token(other) for other, may_leave in others if may_leave]}


def _token(entry: _Token) -> dict[str, Any]:
    return {
        "token": entry.token,
        "logprob": entry.logprob,
        "bytes": list(entry.token.encode("utf-8", "surrogatepass")),
    }
