"""A sink for an answer whose run is read again from its start: it passes on only what the client does not have yet.

The run says what it said before, but rails may cut it into other deltas. So each text, reasoning and tool calls
included, is compared with what was released of it, character for character. At the first difference nothing passes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from railstream.deltas import decode_delta
from railstream_engine.generation.sink import Room

Place = tuple[str | int, ...]
"""Where a text stands in a delta: ``("content",)``, or ``("tool_calls", 0, "function", "arguments")``."""
_encode = msgspec.json.Encoder().encode
_IGNORED: Final = frozenset({"role", "index"})


class ReleasedParts:
    """The texts of the first choice that have left, by their place; ``whole``: there was nothing else."""

    def __init__(self) -> None:
        self._texts: dict[Place, list[str]] = {}
        self.whole = True

    def add(self, delta: dict[str, Any], choice: bytes) -> None:
        if choice:
            self.whole = False
        try:
            for place, text in _texts_of(delta):
                self._texts.setdefault(place, []).append(text)
        except ValueError:
            self.whole = False

    def texts(self) -> dict[Place, str]:
        joined = {place: "".join(pieces) for place, pieces in self._texts.items()}
        return {place: text for place, text in joined.items() if text}

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The tool calls as far as they have left, as a delta has them."""
        places = {place: text for place, text in self.texts().items() if place[0] == "tool_calls"}
        calls: list[dict[str, Any]] = decode_delta(_delta_of(places)).get("tool_calls", [])
        return calls


class ReplaySink:
    """``on_difference`` is called once, when the run turns out to say something else than was released."""

    def __init__(self, sink: Room, released: ReleasedParts, on_difference: Callable[[], None]) -> None:
        self._sink = sink
        self._rest = released.texts()
        self._on_difference = on_difference
        self.differs = not released.whole

    @property
    def caught_up(self) -> bool:
        """All that was released has been read again."""
        return not self._rest and not self.differs

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        if self.caught_up:
            self._sink.chunk(delta, choice)
        elif not self.differs:
            self._compare(delta, choice)

    async def room(self) -> None:
        await self._sink.room()

    def has_room(self) -> bool:
        return self._sink.has_room()

    def _compare(self, delta: bytes, choice: bytes) -> None:
        new: dict[Place, str] = {}
        swallowed = False
        try:
            for place, text in _texts_of(decode_delta(delta)):
                rest = self._rest.get(place, "")
                shared = min(len(rest), len(text))
                if choice or rest[:shared] != text[:shared]:
                    return self._differ()
                swallowed |= bool(shared)
                self._keep(place, rest[shared:])
                if text[shared:]:
                    new[place] = text[shared:]
        except ValueError:
            return self._differ()
        if new:
            self._sink.chunk(_delta_of(new) if swallowed else delta)

    def _keep(self, place: Place, rest: str) -> None:
        if rest:
            self._rest[place] = rest
        else:
            self._rest.pop(place, None)

    def _differ(self) -> None:
        self.differs = True
        self._on_difference()


def _texts_of(delta: dict[str, Any]) -> Iterator[tuple[Place, str]]:
    """Every text of a delta. Raises ``ValueError`` for one that holds something else."""
    for name, value in delta.items():
        if name == "tool_calls" and isinstance(value, list):
            for call in value:
                yield from _texts_of_call(call)
        elif isinstance(value, str) and name not in _IGNORED:
            yield (name,), value
        elif value is not None and name not in _IGNORED:
            raise ValueError(name)


def _texts_of_call(call: Any) -> Iterator[tuple[Place, str]]:
    if not isinstance(call, dict) or not isinstance(call.get("index"), int):
        raise ValueError("tool_calls")
    before: Place = ("tool_calls", call["index"])
    for name, value in call.items():
        if isinstance(value, dict):
            for key, text in value.items():
                if not isinstance(text, str):
                    raise ValueError(key)
                yield (*before, name, key), text
        elif isinstance(value, str):
            yield (*before, name), value
        elif value is not None and name not in _IGNORED:
            raise ValueError(name)


def _delta_of(texts: dict[Place, str]) -> bytes:
    delta: dict[str, Any] = {}
    calls: dict[int, dict[str, Any]] = {}
    for place, text in texts.items():
        match place:
            case (str(name),):
                delta[name] = text
            case (_, int(index), str(name)):
                calls.setdefault(index, {"index": index})[name] = text
            case (_, int(index), str(name), str(key)):
                calls.setdefault(index, {"index": index}).setdefault(name, {})[key] = text
    if calls:
        delta["tool_calls"] = list(calls.values())
    try:
        return _encode(delta)
    except UnicodeEncodeError:  # half a surrogate pair: legal JSON when escaped
        return json.dumps(delta).encode()
