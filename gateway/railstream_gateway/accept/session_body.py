"""What is sent to ``/v1/sessions`` and what is answered there, as msgspec checks the one and writes the other."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from railstream.conversations import BranchInfo, Entry, SessionInfo

Title = Annotated[str, Meta(max_length=256)]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]


class SessionBody(Struct, forbid_unknown_fields=True):
    name: Title | None = None
    metadata: Metadata | None = None


class BranchBody(Struct, forbid_unknown_fields=True, rename={"origin": "from"}):
    """``at``: the last message that is shared; all of them when it is left out."""

    name: str
    origin: str | None = None
    at: str | None = None


class RenameBody(Struct, forbid_unknown_fields=True):
    name: str


class Branch(Struct, rename={"origin": "from"}):
    """``from`` and ``at``: the branch that it was forked from, and the last message that it shares with it."""

    name: str
    object: Literal["session.branch"]
    created: int
    messages: int
    origin: str | None
    at: str | None


class Session(Struct):
    """``branches`` are left out in a list."""

    id: str
    object: Literal["session"]
    created: int
    updated: int
    name: str
    metadata: dict[str, str]
    branches: list[Branch] | UnsetType = UNSET


class SessionList(Struct):
    object: Literal["list"]
    data: list[Session]


class SessionMessage(Struct):
    """A message as it was sent or generated, with where it came from. An answer has ``finish_reason`` and more."""

    id: str
    object: Literal["session.message"]
    created: int
    role: str
    request_id: str | None
    content: str | list[dict[str, Any]] | None = None
    operation: str | UnsetType = UNSET
    """Of a flow."""
    finish_reason: str | UnsetType = UNSET
    """OpenAI's word, or ``blocked``, ``cancelled``, ``failed``."""
    partial: bool | UnsetType = UNSET
    usage: dict[str, Any] | UnsetType | None = UNSET


class SessionMessageList(Struct):
    object: Literal["list"]
    data: list[SessionMessage]


class Deleted(Struct):
    """A session has an ``id``, a branch a ``name``."""

    object: Literal["session.deleted", "session.branch.deleted"]
    deleted: bool
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


def session_of(info: SessionInfo, *, branches: bool = True) -> Session:
    return Session(
        id=info.id,
        object="session",
        created=int(info.created),
        updated=int(info.updated),
        name=info.name,
        metadata=info.metadata,
        branches=[branch_of(branch) for branch in info.branches] if branches else UNSET,
    )


def branch_of(info: BranchInfo) -> Branch:
    return Branch(info.name, "session.branch", int(info.created), info.messages, info.origin or None, info.at or None)


def message_of(entry: Entry) -> dict[str, Any]:
    """A `SessionMessage`, and whatever else the message has."""
    shown = {"id": entry.id, "object": "session.message", "created": int(entry.created), **entry.message}
    shown |= {"request_id": entry.request or None}
    if entry.operation:
        shown |= {"operation": entry.operation}
    if entry.finish_reason:
        shown |= {"finish_reason": entry.finish_reason, "partial": entry.partial, "usage": entry.usage}
    return shown
