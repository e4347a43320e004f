"""Which tool call a fragment belongs to, and the index that tells it apart.

OpenAI numbers the calls of an answer. Others give index 0 to each, or none: there the calls are told apart by id, else
by the name with which each call begins, else by order. What leaves here has one index for each call, so that nobody
behind needs to know; fragments that are numbered already keep their bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from railstream.errors import CallError

from railstream_engine.providers.port import Delta

MOST_CALLS: Final = 256
"""Tool calls of one choice."""


@dataclass(slots=True)
class _ToolCall:
    """What was read of a call so far. ``given``: the provider's index for it."""

    number: int
    given: int | None
    id: str
    name: str
    arguments: str = ""
    pieces: list[str] = field(default_factory=list)
    """All of its arguments, as they came."""


class ToolIndexes:
    """The tool calls of one choice, in the order in which they began."""

    def __init__(self) -> None:
        self._calls: list[_ToolCall] = []
        self._by_id: dict[str, _ToolCall] = {}
        self._numbers: set[int] = set()

    @property
    def whole(self) -> bool:
        """Whether the arguments of each call are JSON, or none."""
        return all(not (text := "".join(call.pieces).strip()) or _is_json(text) for call in self._calls)

    def numbered(self, delta: Delta) -> Delta:
        """The delta with an index for each call that is its alone, and with arguments that are text."""
        fragments = _parsed(delta.tools)
        changed = False
        for fragment in fragments:
            if not isinstance(fragment, dict):
                raise _wrong("tool call", "object", fragment)
            changed |= self._place(fragment)
        if not changed:
            return delta
        tools = json.dumps(fragments, separators=(",", ":")).encode()
        fields = {**json.loads(delta.raw), "tool_calls": fragments}
        raw = json.dumps(fields, separators=(",", ":")).encode()
        return msgspec.structs.replace(delta, raw=raw, tools=tools)

    def _place(self, fragment: dict[str, Any]) -> bool:
        """Number a fragment; whether that changed it."""
        function = _field(fragment, "function", dict, {})
        changed = _arguments_as_text(function)
        id, given = _field(fragment, "id", str, ""), _field(fragment, "index", int, None)
        if given is not None and not 0 <= given < MOST_CALLS:
            message = f"the provider sent a tool call with the index {given}; at most {MOST_CALLS} are read"
            raise CallError(message, code="provider")
        name, arguments = _field(function, "name", str, ""), _field(function, "arguments", str, "")
        call = self._found(id, given, name) or self._begun(id, given, name)
        if not call.id:
            call.arguments += arguments  # by its end the next call is told apart
        call.pieces.append(arguments)
        call.name = call.name or name
        if id and not call.id:
            call.id = id
            self._by_id[id] = call
        if fragment.get("index") == call.number:
            return changed
        fragment["index"] = call.number
        return True

    def _found(self, id: str, given: int | None, name: str) -> _ToolCall | None:
        """The call that a fragment goes on with; ``None`` where it begins one."""
        if id and id in self._by_id:
            return self._by_id[id]
        same = [call for call in self._calls if given is None or call.given == given]
        if not same:
            return None
        last = same[-1]
        if not name:  # a call begins with its name, so that an id alone does not begin another
            return last
        if not last.name:
            return last
        if id and last.id:
            return None
        repeated = name == last.name and not _is_whole(last.arguments)
        return last if repeated and given is not None and not id else None

    def _begun(self, id: str, given: int | None, name: str) -> _ToolCall:
        if len(self._calls) >= MOST_CALLS:
            message = f"the provider sent more than {MOST_CALLS} tool calls, the most that are read of one choice"
            raise CallError(message, code="provider")
        number = given if given is not None and given not in self._numbers else self._free()
        call = _ToolCall(number, given, id, name)
        self._calls.append(call)
        self._numbers.add(number)
        if id:
            self._by_id[id] = call
        return call

    def _free(self) -> int:
        return max(self._numbers, default=-1) + 1


def _parsed(tools: bytes) -> list[Any]:
    fragments = json.loads(tools)
    if not isinstance(fragments, list):
        raise _wrong("tool_calls", "list", fragments)
    return fragments


def _arguments_as_text(function: dict[str, Any]) -> bool:
    """TGI and llama.cpp have sent the arguments as an object (text-generation-inference #2136, llama.cpp #20198)."""
    given = function.get("arguments")
    if not isinstance(given, dict):
        return False
    function["arguments"] = json.dumps(given, ensure_ascii=False)
    return True


def _field(fragment: dict[str, Any], name: str, kind: type, default: Any) -> Any:
    value = fragment.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _wrong(f"tool call's {name}", kind.__name__, value)
    return value


def _wrong(what: str, kind: str, value: object) -> CallError:
    message = f"the provider sent a {what} that is of the type {type(value).__name__}, and should be {kind}"
    return CallError(message, code="provider")


def _is_whole(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return False
    return True


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
