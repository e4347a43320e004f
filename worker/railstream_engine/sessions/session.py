"""A session: messages stored once, branches that are lists of their ids, and the models that are talked to."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from railstream.errors import BranchExistsError, BranchNotFoundError, ConfigurationError, InvalidRequestError

from railstream_engine.sessions.imodel import iModel
from railstream_engine.sessions.messages import Message, SystemContent

FORMAT = 1


@dataclass(slots=True)
class Branch:
    """``parent`` and ``forked_at``: the branch that it was forked from, and the last message that it shares with it."""

    name: str
    order: list[str] = field(default_factory=list)
    parent: str | None = None
    forked_at: str | None = None
    created: float = field(default_factory=time.time)
    busy: bool = field(default=False, repr=False, compare=False)
    """Somebody is answered on it now."""


class Services:
    """The models of a session, by name."""

    def __init__(self) -> None:
        self._models: dict[str, iModel] = {}

    def register(self, model: iModel) -> iModel:
        """Raises ``ConfigurationError`` when another model has its name."""
        if self._models.get(model.name, model) is not model:
            raise ConfigurationError(f"there is a model {model.name!r} already: give this one another name=")
        self._models[model.name] = model
        return model

    def get(self, name: str) -> iModel:
        if name not in self._models:
            known = ", ".join(self._models) or "none"
            raise ConfigurationError(f"model {name!r} is not registered; registered are {known}")
        return self._models[name]

    def __iter__(self) -> Any:
        return iter(self._models.values())

    def __contains__(self, name: str) -> bool:
        return name in self._models


class Conversations:
    """Adding messages, as the recipe does it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add_item(self, message: Message, progressions: Iterable[str] = ()) -> None:
        """Store a message, and append it to the branches of these names."""
        branches = [self._session.branch(name) for name in progressions]
        self._session.add_message(message, *branches)


class Session:
    """Branches have unique names; the first one that is made is the default. Models are not saved with it."""

    def __init__(self, *, id: str | None = None) -> None:
        self.id = id or uuid.uuid4().hex
        self.created = time.time()
        self.services = Services()
        self.conversations = Conversations(self)
        self._messages: dict[str, Message] = {}
        self._branches: dict[str, Branch] = {}

    @property
    def messages(self) -> Mapping[str, Message]:
        """All messages by id, those of every branch."""
        return MappingProxyType(self._messages)

    @property
    def branches(self) -> Mapping[str, Branch]:
        return MappingProxyType(self._branches)

    def create_branch(self, name: str | None = None, *, system: str | None = None) -> Branch:
        """Raises ``BranchExistsError``. ``system``: what a model is told first on this branch."""
        branch = self._add(Branch(name or f"branch-{len(self._branches) + 1}"))
        if system:
            self.add_message(Message(SystemContent(system)), branch)
        return branch

    def fork(self, branch: Branch | str, name: str | None = None, *, at: str | None = None) -> Branch:
        """A branch that begins with the messages of another, up to and with the message ``at``: ids, not copies."""
        origin = self.branch(branch)
        if at is not None and at not in origin.order:
            raise InvalidRequestError(f"message {at!r} is not on branch {origin.name!r}", param="at")
        order = origin.order[: origin.order.index(at) + 1] if at is not None else list(origin.order)
        forked_at = order[-1] if order else None
        return self._add(Branch(name or f"branch-{len(self._branches) + 1}", order, origin.name, forked_at))

    def branch(self, branch: Branch | str) -> Branch:
        """The branch of a name. Raises ``BranchNotFoundError``."""
        name = branch if isinstance(branch, str) else branch.name
        found = self._branches.get(name)
        if found is None:
            known = ", ".join(self._branches) or "none"
            raise BranchNotFoundError(f"there is no branch {name!r} in this session; there are {known}")
        return found

    def rename_branch(self, branch: Branch | str, name: str) -> Branch:
        found = self.branch(branch)
        old = found.name
        self._refuse_taken(name)
        del self._branches[old]
        found.name = name
        self._branches[name] = found
        for other in self._branches.values():
            other.parent = name if other.parent == old else other.parent
        return found

    def delete_branch(self, branch: Branch | str) -> None:
        """Its messages go with it, as far as no other branch has them."""
        found = self._branches.pop(self.branch(branch).name)
        kept = {id for other in self._branches.values() for id in other.order}
        for id in set(found.order) - kept:
            del self._messages[id]

    def add_message(self, message: Message, *branches: Branch | str) -> Message:
        """Store it once, and append its id to each of these branches."""
        self._messages[message.id] = message
        for branch in branches:
            self.branch(branch).order.append(message.id)
        return message

    def history(self, branch: Branch | str) -> list[Message]:
        """The messages of a branch, oldest first."""
        return [self._messages[id] for id in self.branch(branch).order]

    def _add(self, branch: Branch) -> Branch:
        self._refuse_taken(branch.name)
        self._branches[branch.name] = branch
        return branch

    def _refuse_taken(self, name: str) -> None:
        if name in self._branches:
            raise BranchExistsError(f"there is a branch {name!r} in this session already")

    def to_dict(self) -> dict[str, Any]:
        branches = [
            {"name": b.name, "order": b.order, "parent": b.parent, "forked_at": b.forked_at, "created": b.created}
            for b in self._branches.values()
        ]
        messages = [message.to_dict() for message in self._messages.values()]
        return {
            "format": FORMAT, "id": self.id, "created": self.created, "messages": messages, "branches": branches,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Session:
        """Raises ``ValueError`` when it is of another format."""
        if data.get("format") != FORMAT:
            raise ValueError(f"not a session of format {FORMAT}: {data.get('format')!r}")
        session = cls(id=data["id"])
        session.created = data["created"]
        session._messages = {entry["id"]: Message.from_dict(entry) for entry in data["messages"]}
        session._branches = {entry["name"]: Branch(**entry) for entry in data["branches"]}
        return session

    def save(self, path: str | Path) -> None:
        """Messages and branches as JSON; no model, and so no key."""
        Path(path).write_text(json.dumps(self.to_dict(), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Session:
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))

    def __repr__(self) -> str:
        return f"Session(id={self.id!r}, branches={list(self._branches)!r}, messages={len(self._messages)})"

    async def aclose(self) -> None:
        """Close the connections of its models, those of this event loop."""
        for model in self.services:
            await model.aclose()

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
