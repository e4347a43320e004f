"""Errors inside a stream, in the forms that servers give them: the status was 200, so the type and code tell the kind.

An event is an error when it says so and is no chunk: ``{"error": …}``, ``{"object": "error", …}``, ``{"type":
"error"}``, ``{"detail": …}``, ``{"message": …, "code": …}``, each also inside a list.
"""

from __future__ import annotations

import json
from typing import Any, Final

from railstream.errors import CallError

from railstream_engine.providers.faults import answered

REPORTED: Final = "the provider reported an error"
_ANSWERS: Final = ("choices", "candidates", "delta", "content_block")
"""Fields of which one is in each event that holds some of the answer."""
_TEXTS: Final = ("detail", "message", "errors", "error_message", "msg")


def error_of(data: bytes) -> CallError | None:
    """The error that an event reports; ``None`` for an event that reports none."""
    return error_in(_parsed(data))


def error_in(event: Any) -> CallError | None:
    """As `error_of`, of an event that has been parsed."""
    if isinstance(event, list):
        return next((found for item in event if (found := error_in(item)) is not None), None)
    return _error(event) if isinstance(event, dict) and _says_error(event) else None


def reported(data: bytes) -> CallError:
    """The error of an event that is one by its name, whatever its data is."""
    event = _parsed(data)
    found = error_in(event)
    return found or _error(event if isinstance(event, dict) else {})


def _says_error(event: dict[str, Any]) -> bool:
    if event.get("error") or event.get("object") == "error" or event.get("type") == "error":
        return True
    if any(name in event for name in _ANSWERS):
        return False
    if isinstance(event.get("message"), str) and any(event.get(name) for name in ("code", "type", "status")):
        return True
    return any(event.get(name) for name in ("detail", "errors", "error_message"))


def _error(event: dict[str, Any]) -> CallError:
    if isinstance(event.get("error"), dict | str):
        return answered(event if isinstance(event["error"], dict) else event["error"], message=REPORTED)
    message = next((event[name] for name in _TEXTS if isinstance(event.get(name), str)), REPORTED)
    fields = {name: event.get(name) for name in ("code", "type", "status", "param")}
    if fields["type"] == "error":
        fields["type"] = None
    return answered({**fields, "message": message}, message=REPORTED)


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
