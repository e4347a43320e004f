"""What a tool call says: every text that a client decodes from it, and the call rewritten where rails rewrite one.

Arguments are JSON, often with escapes, sometimes with JSON in its strings. A rail that read them as they stand would
miss what the tool is given, so each decoded string is read by itself, and all of them in one text without escapes.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from railstream_engine.rails.matching.bidi import has_override, shown
from railstream_engine.rails.matching.hidden import has_hidden, revealed

DEPTH: Final = 32
"""JSON inside the strings of JSON is decoded so many times: each level doubles the escapes, so no text holds more."""
NESTING: Final = 64
"""Objects and lists inside each other; deeper ones are read as the text they are."""

_LONG: Final = 16_384
"""Characters from which on a text's escapes are undone in a thread: a few milliseconds."""

Read = Callable[[str], Awaitable[str | None]]
"""A text as the rails leave it; ``None`` when one of them blocks it."""


class Blocked(Exception):
    """A rail has blocked one of the texts."""


async def read_arguments(arguments: Any, read: Read) -> Any:
    """The arguments as the rails leave them, in the form they came in. Raises ``Blocked``."""
    value = _decoded(arguments) if isinstance(arguments, str) else arguments
    if isinstance(arguments, str) and not isinstance(value, dict | list):
        return await _read_text(arguments, read)
    rewritten = await _read_value(value, read, DEPTH)
    whole = compact(rewritten)
    if (checked := await _read(whole, read)) != whole:
        return checked
    if rewritten != value:
        return whole if isinstance(arguments, str) else rewritten
    if isinstance(arguments, str) and arguments != whole and await _read(arguments, read) != arguments:
        return whole
    return arguments


def compact(value: Any) -> str:
    """JSON without white space and without escapes of letters."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def readable(arguments: Any) -> str:
    """The arguments in one text as a person reads them: no escapes, and JSON in place of strings that hold some.

    Where a string in them says something else once its own escapes are undone, that reading follows in its own line.
    """
    value = _deeply_decoded(arguments, DEPTH + 1 if isinstance(arguments, str) else DEPTH)
    if isinstance(value, str):
        return _last_reading(value)
    text, undone = compact(value), compact(_undone(value))
    return text if text == undone else f"{text}\n{undone}"


def _undone(value: Any) -> Any:
    if isinstance(value, str):
        return _last_reading(value)
    if isinstance(value, dict):
        return {_last_reading(name): _undone(item) for name, item in value.items()}
    return [_undone(item) for item in value] if isinstance(value, list) else value


def _last_reading(text: str) -> str:
    return [text, *readings(text)][-1]


def _deeply_decoded(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        inner = _decoded(value) if depth else None
        return _deeply_decoded(inner, depth - 1) if isinstance(inner, dict | list) else value
    if isinstance(value, dict):
        return {name: _deeply_decoded(item, depth) for name, item in value.items()}
    return [_deeply_decoded(item, depth) for item in value] if isinstance(value, list) else value


async def _read_text(text: str, read: Read) -> str:
    """Text that is no JSON object: as it stands, and as it may be read otherwise.

    Raises ``Blocked`` for what is only there in the order in which overrides show it: it stands elsewhere in the text.
    """
    checked = await _read(text, read)
    if checked != text:
        return checked
    before = text
    others = readings(text)
    while (reading := await next_reading(others, len(text))) is not None:
        if (checked := await _read(reading, read)) != reading:
            if has_override(before):
                raise Blocked
            return checked
        before = reading
    return text


async def _read_value(value: Any, read: Read, depth: int) -> Any:
    if isinstance(value, str):
        inner = _decoded(value) if depth else None
        if isinstance(inner, dict | list):
            rewritten = await _read_value(inner, read, depth - 1)
            return value if rewritten == inner else compact(rewritten)
        return await _read_text(value, read)
    if isinstance(value, dict):
        return {await _read(name, read): await _read_value(item, read, depth) for name, item in value.items()}
    if isinstance(value, list):
        return [await _read_value(item, read, depth) for item in value]
    return value


async def _read(text: str, read: Read) -> str:
    checked = await read(text) if text else text
    if checked is None:
        raise Blocked
    return checked


def _decoded(text: str) -> Any:
    """The JSON value of a text; ``None`` where it is none, or nested too deeply to be read."""
    try:
        value = json.loads(text, object_pairs_hook=_every_member)
    except (ValueError, RecursionError):
        return None
    return value if depth_of(value) <= NESTING else None


def _every_member(members: list[tuple[str, Any]]) -> Any:
    """An object; one that repeats a key is kept as a list of its members, so that none of them goes unread."""
    found = dict(members)
    return found if len(found) == len(members) else [{name: value} for name, value in members]


def depth_of(value: Any) -> int:
    """How many objects and lists stand inside each other, found without recursion."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_LETTERS: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def readings(text: str) -> Iterator[str]:
    """What else a text may say: with hidden letters made plain, escapes undone again and again, in the order shown."""
    yield from _to_the_eye(text)
    for _ in range(DEPTH):
        before, text = text, _unescaped(text)
        if text == before:
            break
        yield text
        yield from _to_the_eye(text)


def _to_the_eye(text: str) -> Iterator[str]:
    """A text with its invisible letters made plain, and in the order in which it is shown."""
    if has_hidden(text):
        text = revealed(text)
        yield text
    if has_override(text):
        yield shown(text)


def has_readings(text: str) -> bool:
    """Whether `readings` may give any."""
    return "\\" in text or has_hidden(text) or has_override(text)


async def next_reading(found: Iterator[str], length: int) -> str | None:
    """The next of a text's `readings`, made in a thread where the text is long; ``None`` behind the last."""
    return await asyncio.to_thread(next, found, None) if length > _LONG else next(found, None)


def _unescaped(text: str) -> str:
    """A text with the escapes of JSON undone, where they stand in no whole JSON value."""
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _LETTERS.get(m[2], m[2]), text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
