"""Identifiers: request ids that sort by time and cannot be guessed, and event ids that fence writers.

An event id is ``<attempt>-<seq>``. It is the Redis Stream entry id, the SSE event id and the fence in one:
Redis accepts only growing ids, so what a superseded attempt still sends is refused.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import NamedTuple

REQUEST_PREFIX = "chatcmpl-"
_REQUEST_ID = re.compile(r"chatcmpl-[0-9a-f]{32}")
_EVENT_ID = re.compile(r"(0|[1-9]\d{0,9})-(0|[1-9]\d{0,9})")


class EventId(NamedTuple):
    """A position in a request's stream. Ordered as numbers, never as text."""

    attempt: int
    seq: int

    def __str__(self) -> str:
        return f"{self.attempt}-{self.seq}"


START = EventId(0, 0)
"""Before every event: the cursor of a reader that has seen nothing."""


def new_request_id(partition: str | None = None) -> str:
    """``chatcmpl-`` + 12 hex digits of milliseconds + 18 random ones + 2 of the partition (random by default)."""
    tail = secrets.token_hex(10)
    if partition is not None:
        tail = tail[:-2] + partition
    return f"{REQUEST_PREFIX}{int(time.time() * 1000):012x}{tail}"


def created_at(request_id: str) -> float:
    """The moment that a request id was made, in unix seconds by the clock of its gateway."""
    return int(request_id.removeprefix(REQUEST_PREFIX)[:12], 16) / 1000


def is_request_id(value: str) -> bool:
    return _REQUEST_ID.fullmatch(value) is not None


def partition_of(request_id: str) -> str:
    """The partition of a request: the last two hex digits of its id."""
    return request_id[-2:]


def parse_event_id(value: str | bytes) -> EventId:
    """Read ``<attempt>-<seq>``; ``ValueError`` on anything else, with the value in the message."""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    match = _EVENT_ID.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:80]!r} is not an event id: expected <attempt>-<seq>, such as 1-42")
    return EventId(int(match[1]), int(match[2]))
