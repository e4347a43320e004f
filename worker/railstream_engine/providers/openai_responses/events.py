"""Read the event stream of OpenAI's Responses. A run is over with the event of its status: anything else is a break.

Deltas are rewritten into the form of chat completions, which is what flows through here. Events that nobody knows are
left out, as the API asks. The last event holds the whole output: text that no delta brought is taken from there, and
text that a break has lost is noticed there.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any, Final

import msgspec
from railstream.errors import CallError

from railstream_engine.providers.faults import answered
from railstream_engine.providers.http.error_events import error_of
from railstream_engine.providers.http.event_lines import EventLines
from railstream_engine.providers.openai.events import finish_reason
from railstream_engine.providers.openai_responses.parts import delta_of, token_count, tool_delta
from railstream_engine.providers.openai_responses.position import Position
from railstream_engine.providers.port import Delta, Finish, Part, ResponseInfo
from railstream_engine.providers.tool_indexes import MOST_CALLS

FIELDS: Final = {
    "response.output_text.delta": "content",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "reasoning_content",
    "response.reasoning_text.delta": "reasoning_content",
}
STATUSES: Final = ("completed", "incomplete", "cancelled", "failed")
"""Of a run that is over, the worse behind the better."""
ENDINGS: Final = frozenset(f"response.{status}" for status in STATUSES)
INCOMPLETE: Final = {"max_output_tokens": "length", "max_messages": "length", "content_filter": "content_filter"}
_RUN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:=-]{0,511}")
"""What the id of a run may be: it stands in URLs and in Redis."""
PIECES: Final = frozenset({*FIELDS, "response.function_call_arguments.delta", "response.output_item.added"})
"""Events that add to the answer."""
MOST_ITEMS: Final = 4096
"""Of one output; a greater index is a fault of the provider."""


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    sequence_number: int | None = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    delta: Any = None
    item: Any = None
    response: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class ResponseReader(EventLines):
    """Feed it the bytes of one connection. What was read by the connections before stands in ``position``."""

    def __init__(self, position: Position) -> None:
        super().__init__()
        self._position = position
        self._informed = False
        position.connections += 1

    def feed(self, data: bytes) -> list[Part]:
        try:
            parts = super().feed(data)
        except CallError:
            self._position.failed = True
            raise
        if parts and type(parts[-1]) is not ResponseInfo:
            self._position.read_at = time.monotonic()
        if self.failure is not None:
            self._position.failed = True
        return parts

    def end(self) -> list[Part]:
        parts = super().end()
        if not self.done and (bare := self._bare_json()):
            self._whole(bare, parts)
        return parts

    def _event(self, data: bytes, parts: list[Part]) -> None:
        if data == b"[DONE]":
            return
        try:
            event = _decode(data)
        except msgspec.MsgspecError:
            event = _lenient(data)
        if not self._position.passes(event.sequence_number):
            return
        if event.sequence_number is None and event.type in PIECES and self._position.goes_on:
            message = "the provider sent an event without its sequence_number where a run was to go on behind one"
            raise CallError(message, code="truncated")  # it may repeat what has been read
        if (field := FIELDS.get(event.type)) is not None:
            self._text(event, field, parts)
        elif event.type == "response.function_call_arguments.delta":
            self._arguments(event, parts)
        elif event.type == "response.output_item.added":
            self._added(event, parts)
        elif event.type in ENDINGS:
            self._ended(event.type.removeprefix("response."), _object(event.response), parts)
        elif event.type in ("response.created", "response.queued", "response.in_progress"):
            self._inform(_object(event.response), parts)
        elif event.type in ("", "error") and (failure := error_of(data)) is not None:
            raise failure

    def _text(self, event: _Event, field: str, parts: list[Part]) -> None:
        text, item = event.delta, _index(event.output_index)
        if not isinstance(text, str):
            raise TypeError
        part = event.content_index if event.summary_index is None else event.summary_index
        if field == "reasoning_content" and event.summary_index and not self._has(field, item, event.summary_index):
            parts.append(delta_of(field, "\n\n"))  # each part of a summary is a paragraph
        self._position.gained(field, item, part or 0, text)
        if text:
            parts.append(delta_of(field, text))

    def _has(self, field: str, item: int, part: int) -> bool:
        return (field, item, part) in self._position.lengths

    def _added(self, event: _Event, parts: list[Part]) -> None:
        item = _object(event.item)
        if item.get("type") == "function_call":
            self._call(_index(event.output_index), item, parts)

    def _call(self, place: int, item: dict[str, Any], parts: list[Part]) -> None:
        tools = self._position.tools
        if place in tools:
            return
        if len(tools) >= MOST_CALLS:
            message = f"the provider sent more than {MOST_CALLS} tool calls, the most that are read of one answer"
            raise CallError(message, code="provider")
        id, name = item.get("call_id") or item.get("id"), item.get("name")
        if not isinstance(id, str) or not isinstance(name, str):
            raise TypeError
        number = tools[place] = len(tools)
        function = {"name": name, "arguments": ""}
        parts.append(tool_delta({"index": number, "id": id, "type": "function", "function": function}))

    def _arguments(self, event: _Event, parts: list[Part]) -> None:
        item = _index(event.output_index)
        if not isinstance(event.delta, str):
            raise TypeError
        if item not in self._position.tools:
            raise CallError("the provider sent arguments of a tool call that it had not begun", code="provider")
        self._position.gained("arguments", item, 0, event.delta)
        if event.delta:
            parts.append(self._fragment(item, event.delta))

    def _fragment(self, item: int, arguments: str) -> Delta:
        return tool_delta({"index": self._position.tools[item], "function": {"arguments": arguments}})

    def _inform(self, response: dict[str, Any], parts: list[Part]) -> None:
        id, model = response.get("id"), response.get("model")
        if not isinstance(id, str) or not _RUN.fullmatch(id):
            raise TypeError
        self._position.named(id)
        if not self._informed:
            self._informed = True
            parts.append(ResponseInfo(id, model if isinstance(model, str) else ""))

    def _whole(self, data: bytes, parts: list[Part]) -> None:
        """A response object that came in place of a stream of events."""
        response = _object(json.loads(data))
        if (failure := error_of(data)) is not None and response.get("object") != "response":
            raise failure
        if (status := response.get("status")) in STATUSES:
            self._ended(status, response, parts)
        elif response.get("id"):
            self._inform(response, parts)  # the run is not over: it is read as one whose connection broke

    def _ended(self, ending: str, response: dict[str, Any], parts: list[Part]) -> None:
        """``ending``: how the event says that the run ended. Where the response's status is worse, that holds."""
        if response.get("id"):
            self._inform(response, parts)
        output = response.get("output")
        for place, item in enumerate(output if isinstance(output, list) else ()):
            self._reconcile(place, _object(item), parts)
        if isinstance(usage := response.get("usage"), dict):
            parts.append(token_count(usage))
        self._position.ended = self.done = True
        status = response.get("status")
        if status in STATUSES:
            ending = max(ending, str(status), key=STATUSES.index)
        if ending in ("failed", "cancelled"):
            raise _failure(ending, response)
        parts.append(self._finish(ending, response))

    def _finish(self, ending: str, response: dict[str, Any]) -> Finish:
        if ending == "incomplete":
            raw = str((response.get("incomplete_details") or {}).get("reason") or "incomplete")
            return Finish(0, INCOMPLETE.get(raw) or finish_reason(raw), raw)
        return Finish(0, "tool_calls" if self._position.tools else "stop", ending)

    def _reconcile(self, place: int, item: dict[str, Any], parts: list[Part]) -> None:
        """Take from the whole output what no delta has brought."""
        kind = item.get("type")
        if kind == "message":
            for number, part in enumerate(item.get("content") or ()):
                field = "refusal" if part.get("type") == "refusal" else "content"
                self._fill_in(field, place, number, part.get("text" if field == "content" else "refusal"), parts)
        elif kind == "reasoning":
            for number, part in enumerate(item.get("summary") or ()):
                self._fill_in("reasoning_content", place, number, part.get("text"), parts)
        elif kind == "function_call":
            self._call(place, item, parts)
            self._fill_in("arguments", place, 0, item.get("arguments"), parts)

    def _fill_in(self, field: str, place: int, part: int, text: Any, parts: list[Part]) -> None:
        known = self._position.lengths.get((field, place, part), 0)
        if not isinstance(text, str) or known >= len(text):
            return
        if known:
            if self._position.may_lack and field != "reasoning_content":
                message = (
                    f"the provider sent {known} of {len(text)} characters of a text: events of its run are missing"
                )
                raise CallError(message, code="truncated")
            return
        self._position.gained(field, place, part, text)
        parts.append(self._fragment(place, text) if field == "arguments" else delta_of(field, text))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError  # `EventLines` makes it an event of the wrong form
    return value


def _index(given: int | None) -> int:
    place = given or 0
    if not 0 <= place < MOST_ITEMS:
        raise CallError(f"the provider sent an item with the index {place}; {MOST_ITEMS} are read", code="provider")
    return place


def _lenient(data: bytes) -> _Event:
    """An event that holds half of a surrogate pair: legal JSON, which msgspec refuses."""
    return msgspec.convert(json.loads(data), _Event)


def _failure(ending: str, response: dict[str, Any]) -> CallError:
    if ending == "cancelled":
        return CallError("the run was cancelled at the provider", code="provider", provider_code="cancelled")
    error = response.get("error")
    return answered(error if isinstance(error, dict) else {}, message="the provider's run failed")
