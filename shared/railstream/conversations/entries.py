"""What a session holds: messages once, branches as lists of their ids, and where each branch came from."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from railstream.errors import InvalidRequestError, SessionNotFoundError

MAIN: Final = "main"
"""The branch that every session begins with; the one of a thread id."""
AGE: Final = 7 * 24 * 3600
"""Seconds since the last turn, after which a session is forgotten."""
MOST_MESSAGES: Final = 1000
"""Of one branch: the oldest are forgotten first."""
MOST_BRANCHES: Final = 2000
MOST_LISTED: Final = 1000
"""Sessions of one API key that are listed; older ones are still served by their id."""

_SESSION_ID: Final = re.compile(r"sess-[0-9a-f]{32}")
_BRANCH: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message as it is stored. ``message`` is in the form of a chat completion's request."""

    message: dict[str, Any]
    created: float
    """Unix seconds."""
    request: str = ""
    """The completion that it was sent with, or that it is the answer of."""
    finish_reason: str = ""
    """Of an answer: OpenAI's word, or ``blocked``, ``cancelled``, ``failed``."""
    partial: bool = False
    """The answer was cut."""
    withheld: bool = False
    """A rail blocked this turn: it is listed, and no model is shown it again."""
    operation: str = ""
    """Of a flow: the one that asks, or that answers. Each has a turn of its own."""
    usage: dict[str, Any] | None = None
    """Of an answer: what the provider told, as OpenAI's usage object."""
    id: str = ""


class BranchInfo(msgspec.Struct, frozen=True):
    """``origin`` and ``at``: the branch that it was forked from, and the last message that it shares with it."""

    name: str
    created: float
    messages: int = 0
    origin: str = ""
    at: str = ""
    writer: str = ""
    """The completion that was last begun on it."""


class SessionInfo(msgspec.Struct, frozen=True):
    id: str
    created: float
    updated: float
    name: str = ""
    metadata: dict[str, str] = {}
    branches: tuple[BranchInfo, ...] = ()


def new_session_id() -> str:
    """``sess-`` + 12 hex digits of milliseconds + 20 random ones, the last two of which are the partition."""
    return f"sess-{int(time.time() * 1000):012x}{secrets.token_hex(10)}"


def session_of_thread(digest: str) -> str:
    """The session behind a thread id. ``digest``: hex digest of API key and thread id."""
    return f"sess-{digest[-32:]}"


def check_session_id(session: str) -> None:
    """Raises ``SessionNotFoundError``: what is no id names no session."""
    if _SESSION_ID.fullmatch(session) is None:
        raise no_session(session)


def check_branch_name(name: str) -> None:
    if _BRANCH.fullmatch(name) is None:
        raise InvalidRequestError(
            f"{name[:80]!r} is not a branch name: 1 to 64 letters, digits, '.', '_' and '-'", param="name"
        )


def no_session(session: str) -> SessionNotFoundError:
    return SessionNotFoundError(f"there is no session {session[:80]!r} here, or it has expired", param="session")


def prompt_of(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """What a model is shown of a branch: all but the turns that a rail blocked."""
    entries = list(entries)
    withheld = {(entry.request, entry.operation) for entry in entries if entry.withheld and entry.request}
    return [entry.message for entry in entries if (entry.request, entry.operation) not in withheld]
