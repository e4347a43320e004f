"""What the stream of one request says of its life, for an operator: attempts, calls, rails, its end.

Text of the prompt or the answer is left out unless it is wanted. So is what may quote it: a provider's message, the
released text of an error, the log of rails.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from railstream import events, keys
from railstream.call_kinds import OUR_TYPES, closed_words
from railstream.deltas import decode_delta, joined, text_of
from railstream.events import Event, Restarted, Started
from railstream.ids import parse_event_id

PAGE: Final = 500
"""Events that are read in one round trip."""
CONTENT: Final = frozenset({"partial", "refusal", "log", "result"})
"""Fields of an end, or of its error, that hold text of the answer or of rails."""


@dataclass(slots=True)
class History:
    """``attempts``, ``calls`` and ``end`` are plain JSON. ``texts`` by choice index, where content is wanted."""

    attempts: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    operations: list[dict[str, Any]] = field(default_factory=list)
    chunks: int = 0
    characters: int = 0
    end: dict[str, Any] | None = None
    texts: dict[int, str] = field(default_factory=dict)
    first: str = ""
    last: str = ""
    """Ids of the first and the last event that the stream holds."""


async def read(redis: Redis, request_id: str, *, content: bool) -> History:
    """All that the stream of a request holds."""
    history = History()
    texts: dict[int, list[str]] = {}
    after = "-"
    while True:
        page: list[Any] = await redis.xrange(keys.events(request_id), min=after, count=PAGE) or []
        for entry, fields in page:
            event = Event(parse_event_id(entry), fields[b"event"], fields[b"data"], fields.get(b"choice", b""))
            _add(history, event, texts, content)
        if len(page) < PAGE:
            break
        after = f"({page[-1][0].decode()}"
    history.texts = {index: joined("".join(pieces)) for index, pieces in sorted(texts.items())}
    return history


def _add(history: History, event: Event, texts: dict[int, list[str]], content: bool) -> None:
    history.first = history.first or str(event.id)
    history.last = str(event.id)
    if event.name == events.CHUNK:
        text = text_of(decode_delta(event.data))
        history.chunks += 1
        history.characters += len(text)
        if content:
            texts.setdefault(_index(event.choice), []).append(text)
        return
    if event.name not in events.EVENTS:  # of a later release
        history.operations.append({"event": event.name.decode(errors="replace"), "at": str(event.id)})
        return
    payload = events.decode(event)
    shown = msgspec.to_builtins(payload)
    match event.name:
        case events.STARTED | events.RESTARTED:
            assert isinstance(payload, Started | Restarted)
            history.attempts.append(_attempt(event, payload))
        case events.USAGE:
            history.calls.append(shown)
        case name if name in events.TERMINAL:
            history.end = {
                "event": name.decode(),
                "at": str(event.id),
                **(shown if content else without_content(shown)),
            }
        case name:
            kept = shown if content else without_content(shown)
            history.operations.append({"event": name.decode(), "at": str(event.id), **kept})


def _attempt(event: Event, payload: Started | Restarted) -> dict[str, Any]:
    if isinstance(payload, Started):
        return {"attempt": event.id.attempt, "at": str(event.id), "reason": "started"}
    return {"attempt": payload.attempt, "at": str(event.id), "reason": payload.reason, "after": payload.after}


def _index(choice: bytes) -> int:
    return int(decode_delta(choice).get("index", 0)) if choice else 0


def without_content(end: dict[str, Any]) -> dict[str, Any]:
    """An end of a stream without what may quote prompt or answer."""
    shown = {name: value for name, value in end.items() if name not in CONTENT}
    if isinstance(shown.get("error"), dict):
        shown["error"] = _error(shown["error"])
    return shown


def _error(error: dict[str, Any]) -> dict[str, Any]:
    """A provider's own message may quote the prompt, and so may its words: ours stand in their place."""
    shown = {name: value for name, value in error.items() if name not in CONTENT}
    return shown if shown.get("type") in OUR_TYPES else shown | closed_words(shown)
