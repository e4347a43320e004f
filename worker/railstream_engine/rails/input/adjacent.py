"""Which texts of a request stand beside each other, so that a word may be split over them.

A sequence is *spoken* where a provider may join its texts into one: what messages of one role in a row say. It is
*listed* where a model reads the texts after each other, each in quotes: items of a list, members of an object, values
of a tool call's arguments.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from railstream.messages import Path, Text, is_content, is_id, texts_in

Message = Mapping[str, Any]
INSTRUCTIONS: Final = ("system", "developer")
"""Roles whose messages some providers take out of the conversation."""
_BESIDE: Final = frozenset({
    "id", "tool_call_id", "tool_use_id", "call_id", "name", "url", "image_url", "data", "file_data", "file_id",
    "filename", "format", "media_type", "type", "signature", "thought_signature", "title",
})  # fmt: skip
"""Last keys of what stands in a content and is no part of what it says."""
_SPOKEN: Final = frozenset({"content", "refusal", "reasoning", "reasoning_content", "thinking", "audio"})
"""First keys of what a message says."""
_SCHEMAS: Final = frozenset({"tools", "functions", "response_format"})
_JSON: Final = ("{", "[", '"')


class Place(NamedTuple):
    """Where a text stands: which message (-1: an option), and where in it."""

    message: int
    path: Path
    inner: int = -1
    """Which of the strings of the JSON that the text is; -1: the text itself."""


@dataclass(frozen=True, slots=True)
class Adjacent:
    """Texts that stand beside each other, in order."""

    texts: Sequence[tuple[Place, str]]
    spoken: bool


def sequences_in(messages: Sequence[Message]) -> list[Adjacent]:
    """Of messages that a provider may merge: their contents, all that they say, and what stands in like places."""
    leaves = [(at, text) for at, message in enumerate(messages) for text in texts_in(message) if _is_leaf(text)]
    contents = [_placed(at, text) for at, text in leaves if is_content(text)]
    spoken = [_placed(at, text) for at, text in leaves if text.path[0] in _SPOKEN and _last_key(text) not in _BESIDE]
    found = [Adjacent(contents, True), Adjacent(spoken, True)]
    found += [Adjacent(texts, False) for texts in _in_like_places(leaves)]
    return _distinct([*found, *_inside(leaves)])


def sequences_of(params: Mapping[str, Any]) -> list[Adjacent]:
    """Of options: what stands in like places, and all of an option in order."""
    found: list[Adjacent] = []
    for name, value in params.items():
        leaves = [(-1, text) for text in texts_in({name: value}) if _is_leaf(text)]
        if name in _SCHEMAS:  # lists of numbers are no text that somebody split
            leaves = [(at, text) for at, text in leaves if any(one.isalpha() for one in text.text)]
        spoken = name == "prediction"
        whole = [_placed(at, text) for at, text in leaves if _last_key(text) not in _BESIDE or name not in _SCHEMAS]
        found.append(Adjacent(whole, spoken))
        found += [Adjacent(texts, spoken) for texts in _in_like_places(leaves)]
        found += _inside(leaves)
    return _distinct(found)


def runs(messages: Sequence[Message]) -> list[list[int]]:
    """Which messages a provider may merge into one turn, by their positions.

    Those of one role in a row, whatever says nothing between them; some providers move the system's and developer's
    messages out of the conversation, into one text.
    """
    instructions = [at for at, message in enumerate(messages) if message.get("role") in INSTRUCTIONS]
    found: list[list[int]] = []
    for at, message in enumerate(messages):
        if message.get("role") in INSTRUCTIONS or not any(_is_leaf(text) for text in texts_in(message)):
            continue
        if found and messages[found[-1][0]].get("role") == message.get("role"):
            found[-1].append(at)
        else:
            found.append([at])
    return [instructions, *found] if instructions else found


def _is_leaf(text: Text) -> bool:
    return not text.fixed and not is_id(text) and text.path[-1:] != ("role",)


def _placed(at: int, text: Text) -> tuple[Place, str]:
    return Place(at, text.path), text.text


def _last_key(text: Text) -> str:
    return next((name for name in reversed(text.path) if isinstance(name, str)), "")


def _in_like_places(leaves: Sequence[tuple[int, Text]]) -> Iterator[list[tuple[Place, str]]]:
    """Texts whose places differ by positions in lists alone, such as the refusals of several parts."""
    alike: dict[tuple[str, ...], list[tuple[Place, str]]] = {}
    for at, text in leaves:
        shape = tuple(name if isinstance(name, str) else "*" for name in text.path)
        alike.setdefault(shape, []).append(_placed(at, text))
    yield from alike.values()


def _inside(leaves: Sequence[tuple[int, Text]]) -> Iterator[Adjacent]:
    """The strings of JSON that stands in texts: arguments of calls, results of tools."""
    for texts in _in_like_places(leaves):
        strings = [
            (Place(*place[:2], inner), one)
            for place, text in texts
            if text.lstrip()[:1] in _JSON
            for inner, one in enumerate(_strings_of(text))
        ]
        yield Adjacent(strings, False)


def _strings_of(text: str) -> list[str]:
    try:
        value = json.loads(text)
        return [found.text for found in texts_in({"": value}) if not found.fixed]
    except (ValueError, RecursionError):
        return []


def _distinct(found: Sequence[Adjacent]) -> list[Adjacent]:
    """Those of two texts and more, each once; a sequence that is spoken is read as such."""
    kept: dict[tuple[Place, ...], Adjacent] = {}
    for one in found:
        if len(one.texts) > 1:
            kept.setdefault(tuple(place for place, _ in one.texts), one)
    return list(kept.values())
