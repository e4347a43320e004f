"""Sessions in this process: for tests and for one process that keeps nothing."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from railstream.conversations.entries import (
    MAIN,
    MOST_BRANCHES,
    MOST_MESSAGES,
    BranchInfo,
    Entry,
    SessionInfo,
    check_branch_name,
    new_session_id,
    no_session,
)
from railstream.conversations.redis_store import exists, full, no_branch
from railstream.errors import InvalidRequestError


@dataclass(slots=True)
class _Branch:
    ids: list[str] = field(default_factory=list)
    origin: str = ""
    at: str = ""
    created: float = field(default_factory=time.time)
    writer: str = ""
    since: int = 0
    answer: tuple[str, int] | None = None
    """The answer's message, and the attempt that it is of."""
    turns: dict[str, list[str]] = field(default_factory=dict)
    """Question, and answer once there is one, of each operation of the flow that writes here."""
    attempt: int = 0
    """Of that flow."""

    def before(self, operation: str) -> int:
        """How many messages stand before a turn of the writer."""
        if not operation:
            return self.since
        question = self.turns.get(operation, [""])[0]
        return self.ids.index(question) if question in self.ids else 0 if question else len(self.ids)


@dataclass(slots=True)
class _Session:
    id: str
    tenant: str
    name: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)
    messages: dict[str, Entry] = field(default_factory=dict)
    branches: dict[str, _Branch] = field(default_factory=dict)
    next: int = 0

    def add(self, branch: _Branch, entry: Entry) -> str:
        self.next += 1
        id = f"m{self.next}"
        self.messages[id] = msgspec.structs.replace(entry, id=id)
        branch.ids.append(id)
        return id

    def replace(self, id: str, entry: Entry) -> None:
        if id in self.messages:
            self.messages[id] = msgspec.structs.replace(entry, id=id)

    def end_operation(self, branch: _Branch, attempt: int, answer: Entry) -> bool:
        own = branch.turns.get(answer.operation)
        if own is None or branch.attempt > attempt:
            return False
        branch.attempt = attempt
        if len(own) > 1:
            self.replace(own[1], answer)
            return True
        place = branch.ids.index(own[0]) + 1 if own[0] in branch.ids else len(branch.ids)
        own.append(self.add(branch, answer))
        branch.ids.insert(place, branch.ids.pop())
        return True

    def forget_unused(self) -> None:
        kept = {id for branch in self.branches.values() for id in branch.ids}
        self.messages = {id: entry for id, entry in self.messages.items() if id in kept}

    def info(self) -> SessionInfo:
        branches = tuple(
            BranchInfo(name, branch.created, len(branch.ids), branch.origin, branch.at, branch.writer)
            for name, branch in self.branches.items()
        )
        return SessionInfo(self.id, self.created, self.updated, self.name, dict(self.metadata), branches)


class MemorySessions:
    def __init__(self, *, most: int = MOST_MESSAGES) -> None:
        self._sessions: dict[str, _Session] = {}
        self._most = most

    async def create(self, tenant: str, *, name: str = "", metadata: Mapping[str, str] | None = None) -> SessionInfo:
        made = _Session(new_session_id(), tenant, name, dict(metadata or {}), branches={MAIN: _Branch()})
        self._sessions[made.id] = made
        return made.info()

    async def read(self, session: str, tenant: str) -> SessionInfo:
        return self._of(session, tenant).info()

    async def listed(self, tenant: str, limit: int) -> list[SessionInfo]:
        own = [found for found in self._sessions.values() if found.tenant == tenant]
        own.sort(key=lambda found: found.updated, reverse=True)
        return [msgspec.structs.replace(found.info(), branches=()) for found in own[:limit]]

    async def change(
        self, session: str, tenant: str, *, name: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> SessionInfo:
        found = self._of(session, tenant)
        found.name = found.name if name is None else name
        found.metadata = found.metadata if metadata is None else dict(metadata)
        found.updated = time.time()
        return found.info()

    async def delete(self, session: str, tenant: str) -> None:
        del self._sessions[self._of(session, tenant).id]

    async def create_branch(
        self, session: str, tenant: str, name: str, *, origin: str = "", at: str = ""
    ) -> BranchInfo:
        check_branch_name(name)
        found = self._of(session, tenant)
        if name in found.branches:
            raise exists(name)
        if len(found.branches) >= MOST_BRANCHES:
            raise full()
        ids = list(_branch(found, origin).ids) if origin else []
        if at and origin:
            if at not in ids:
                raise InvalidRequestError(f"message {at[:80]!r} is not on branch {origin!r}", param="at")
            ids = ids[: ids.index(at) + 1]
        found.branches[name] = _Branch(ids, origin, ids[-1] if ids else "")
        return next(branch for branch in found.info().branches if branch.name == name)

    async def rename_branch(self, session: str, tenant: str, name: str, to: str, *, over: str = "") -> str:
        check_branch_name(to)
        found = self._of(session, tenant)
        branch = _branch(found, name)
        if name == to:
            return ""
        if to in found.branches:
            raise exists(to)
        if branch.writer and branch.writer != over:
            return branch.writer
        del found.branches[name]
        branch.writer, branch.answer, branch.turns, branch.attempt = "", None, {}, 0
        found.branches[to] = branch
        for other in found.branches.values():
            other.origin = to if other.origin == name else other.origin
        return ""

    async def delete_branch(self, session: str, tenant: str, name: str) -> None:
        found = self._of(session, tenant)
        _branch(found, name)
        del found.branches[name]
        found.forget_unused()

    async def messages(self, session: str, tenant: str, branch: str) -> list[Entry]:
        found = self._of(session, tenant)
        return [found.messages[id] for id in _branch(found, branch).ids]

    async def begin_turn(
        self,
        session: str,
        tenant: str,
        branch: str,
        request: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        over: str = "",
        create: bool = False,
    ) -> str:
        if create and session not in self._sessions:
            self._sessions[session] = _Session(session, tenant, branches={branch: _Branch()})
        found = self._of(session, tenant)
        on = _branch(found, branch)
        if on.writer == request:
            return ""
        if on.writer and on.writer != over:
            return on.writer
        most = max(0, self._most - len(messages))
        on.ids = on.ids[max(0, len(on.ids) - most) :]
        on.writer, on.since, on.answer, on.turns, on.attempt = request, len(on.ids), None, {}, 0
        for message in messages:
            found.add(on, Entry(dict(message), time.time(), request))
        found.forget_unused()
        found.updated = time.time()
        return ""

    async def abandon_turn(self, session: str, branch: str, request: str) -> None:
        found = self._sessions.get(session)
        on = found.branches.get(branch) if found else None
        if found is None or on is None or on.writer != request or on.answer is not None:
            return
        on.ids, on.writer = on.ids[: on.since], ""
        found.forget_unused()

    async def rewrite_turn(
        self, session: str, branch: str, request: str, messages: Mapping[int, Mapping[str, Any]]
    ) -> bool:
        found = self._sessions.get(session)
        on = found.branches.get(branch) if found else None
        if found is None or on is None or on.writer != request:
            return False
        for at, message in messages.items():
            if on.since + at < len(on.ids):
                found.replace(on.ids[on.since + at], Entry(dict(message), time.time(), request))
        return True

    async def begin_operation(self, session: str, branch: str, attempt: int, question: Entry) -> bool:
        found = self._sessions.get(session)
        if found is None:
            raise no_branch(branch)
        on = _branch(found, branch)
        if on.writer != question.request or on.attempt > attempt:
            return False
        on.attempt = attempt
        if question.operation in on.turns:
            found.replace(on.turns[question.operation][0], question)
        else:
            on.ids = on.ids[max(0, len(on.ids) - max(0, self._most - 1)) :]
            on.turns[question.operation] = [found.add(on, question)]
            found.forget_unused()
        return True

    async def resume_operations(
        self, session: str, branch: str, request: str, attempt: int, begun: Collection[str]
    ) -> None:
        found = self._sessions.get(session)
        on = found.branches.get(branch) if found else None
        if found is None or on is None or on.writer != request or on.attempt > attempt:
            return
        on.attempt = attempt
        gone = {id for operation, ids in on.turns.items() if operation not in begun for id in ids}
        on.turns = {operation: ids for operation, ids in on.turns.items() if operation in begun}
        on.ids = [id for id in on.ids if id not in gone]
        found.forget_unused()

    async def history(self, session: str, branch: str, request: str, operation: str = "") -> list[Entry]:
        found = self._sessions.get(session)
        on = found.branches.get(branch) if found else None
        if found is None or on is None:
            return []
        ids = on.ids[: on.before(operation)] if on.writer == request else on.ids
        entries = map(found.messages.__getitem__, ids)
        return [entry for entry in entries if (entry.request, entry.operation) != (request, operation)]

    async def end_turn(self, session: str, branch: str, request: str, attempt: int, answer: Entry) -> bool:
        found = self._sessions.get(session)
        on = found.branches.get(branch) if found else None
        if found is None or on is None or on.writer != request:
            return False
        if answer.operation:
            return found.end_operation(on, attempt, answer)
        if on.answer is None:
            on.answer = (found.add(on, answer), attempt)
            return True
        id, by = on.answer
        if by > attempt:
            return False
        found.replace(id, answer)
        on.answer = (id, attempt)
        return True

    def _of(self, session: str, tenant: str) -> _Session:
        found = self._sessions.get(session)
        if found is None or found.tenant != tenant:
            raise no_session(session)
        return found


def _branch(session: _Session, name: str) -> _Branch:
    found = session.branches.get(name)
    if found is None:
        raise no_branch(name)
    return found
