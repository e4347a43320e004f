"""Sessions in Redis: four hashes each, in one slot, forgotten together when they are not used."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from railstream import keys
from railstream.conversations import scripts
from railstream.conversations.entries import (
    AGE,
    MAIN,
    MOST_BRANCHES,
    MOST_LISTED,
    MOST_MESSAGES,
    BranchInfo,
    Entry,
    SessionInfo,
    check_branch_name,
    check_session_id,
    new_session_id,
    no_session,
)
from railstream.errors import BranchExistsError, BranchNotFoundError, InvalidRequestError

_encode = msgspec.json.Encoder().encode
_entry = msgspec.json.Decoder(Entry).decode
_strings = msgspec.json.Decoder(dict[str, str]).decode


class _About(msgspec.Struct):
    """What is known of a branch besides its messages."""

    created: float = 0
    origin: str = ""
    at: str = ""


_about = msgspec.json.Decoder(_About).decode


class RedisSessions:
    """``age`` in seconds since a session was last used; ``most`` messages of a branch."""

    def __init__(self, redis: Redis, *, age: float = AGE, most: int = MOST_MESSAGES) -> None:
        self._redis = redis
        self._age = max(1, round(age))
        self._most = most

    async def create(self, tenant: str, *, name: str = "", metadata: Mapping[str, str] | None = None) -> SessionInfo:
        session = new_session_id()
        await self._run(scripts.CREATE, session, tenant, MAIN, _now(), self._age, name, _encode(metadata or {}))
        await self._list(session, tenant)
        return await self.read(session, tenant)

    async def read(self, session: str, tenant: str) -> SessionInfo:
        check_session_id(session)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hgetall(keys.session(session))
        pipeline.hgetall(keys.session_branches(session))
        fields, branches = await pipeline.execute()
        if fields.get(b"tenant") != tenant.encode():
            raise no_session(session)
        return _info(session, fields, branches)

    async def listed(self, tenant: str, limit: int) -> list[SessionInfo]:
        found: list[Any] = await self._redis.zrange(keys.sessions(tenant), 0, limit - 1, desc=True)
        sessions = [id.decode() for id in found]
        pipeline = self._redis.pipeline(transaction=False)
        for session in sessions:
            pipeline.hgetall(keys.session(session))
        answers = await pipeline.execute() if sessions else []
        gone = [session for session, fields in zip(sessions, answers, strict=True) if not fields]
        if gone:
            await self._redis.zrem(keys.sessions(tenant), *gone)
        return [_info(session, fields, {}) for session, fields in zip(sessions, answers, strict=True) if fields]

    async def change(
        self, session: str, tenant: str, *, name: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> SessionInfo:
        changes: list[Any] = [] if name is None else ["name", name]
        changes += [] if metadata is None else ["metadata", _encode(metadata)]
        await self._run(scripts.CHANGE, session, tenant, _now(), self._age, *changes)
        return await self.read(session, tenant)

    async def delete(self, session: str, tenant: str) -> None:
        await self.read(session, tenant)
        await self._redis.delete(*keys.of_session(session))
        await self._redis.zrem(keys.sessions(tenant), session)

    async def create_branch(
        self, session: str, tenant: str, name: str, *, origin: str = "", at: str = ""
    ) -> BranchInfo:
        check_branch_name(name)
        given = (tenant, name, origin, at, _now(), self._age, MOST_BRANCHES)
        await self._run(scripts.FORK, session, *given, branch=origin, to=name, at=at)
        return next(branch for branch in (await self.read(session, tenant)).branches if branch.name == name)

    async def rename_branch(self, session: str, tenant: str, name: str, to: str, *, over: str = "") -> str:
        check_branch_name(to)
        return await self._run(scripts.RENAME, session, tenant, name, to, over, _now(), self._age, branch=name, to=to)

    async def delete_branch(self, session: str, tenant: str, name: str) -> None:
        await self._run(scripts.DELETE_BRANCH, session, tenant, name, branch=name)

    async def messages(self, session: str, tenant: str, branch: str) -> list[Entry]:
        check_session_id(session)
        owner: Any = await self._redis.hget(keys.session(session), "tenant")
        if owner != tenant.encode():
            raise no_session(session)
        ids = await self._ids(session, branch)
        if ids is None:
            raise no_branch(branch)
        return await self._entries(session, ids)

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
        entries = [_encode(Entry(dict(message), time.time(), request)) for message in messages]
        given = (tenant, branch, request, over, int(create), _now(), self._age, self._most, *entries)
        holder = await self._run(scripts.BEGIN, session, *given, branch=branch)
        if not holder:
            await self._list(session, tenant)
        return holder

    async def abandon_turn(self, session: str, branch: str, request: str) -> None:
        await self._run(scripts.ABANDON, session, branch, request)

    async def rewrite_turn(
        self, session: str, branch: str, request: str, messages: Mapping[int, Mapping[str, Any]]
    ) -> bool:
        entries = [(at, _encode(Entry(dict(message), time.time(), request))) for at, message in messages.items()]
        given = (branch, request, *(value for pair in entries for value in pair))
        taken: Any = await self._redis.eval(scripts.REWRITE, 4, *keys.of_session(session), *given)
        return bool(taken)

    async def begin_operation(self, session: str, branch: str, attempt: int, question: Entry) -> bool:
        own = (branch, question.request, attempt, question.operation)
        given = (*own, _encode(question), _now(), self._age, self._most)
        taken: Any = await self._redis.eval(scripts.BEGIN_OPERATION, 4, *keys.of_session(session), *given)
        if taken == b"no branch":
            raise no_branch(branch)
        return bool(taken)

    async def resume_operations(
        self, session: str, branch: str, request: str, attempt: int, begun: Collection[str]
    ) -> None:
        await self._run(scripts.RESUME_OPERATIONS, session, branch, request, attempt, *begun)

    async def history(self, session: str, branch: str, request: str, operation: str = "") -> list[Entry]:
        given = (branch, request, operation)
        ids: Any = await self._redis.eval(scripts.HISTORY, 4, *keys.of_session(session), *given)
        return [entry for entry in await self._entries(session, ids) if _before(entry, request, operation)]

    async def end_turn(self, session: str, branch: str, request: str, attempt: int, answer: Entry) -> bool:
        own = (branch, request, attempt) + ((answer.operation,) if answer.operation else ())
        script = scripts.END_OPERATION if answer.operation else scripts.END
        given = (*own, _encode(answer), _now(), self._age)
        taken: Any = await self._redis.eval(script, 4, *keys.of_session(session), *given)
        return bool(taken)

    async def _run(self, script: str, session: str, *args: Any, branch: str = "", to: str = "", at: str = "") -> str:
        """The writer that is in the way, if one is."""
        check_session_id(session)
        answer: Any = await self._redis.eval(script, 4, *keys.of_session(session), *args)
        said = answer.decode() if isinstance(answer, bytes) else ""
        match said.partition(" "):
            case "no", _, "session":
                raise no_session(session)
            case "no", _, "branch":
                raise no_branch(branch)
            case "no", _, "message":
                raise InvalidRequestError(f"message {at[:80]!r} is not on branch {branch!r}", param="at")
            case "exists", _, _:
                raise exists(to)
            case "full", _, _:
                raise full()
            case "busy", _, holder:
                return holder
        return ""

    async def _list(self, session: str, tenant: str) -> None:
        """In a slot of its own: a session that is not listed is served all the same."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zadd(keys.sessions(tenant), {session: time.time()})
        pipeline.zremrangebyrank(keys.sessions(tenant), 0, -MOST_LISTED - 1)
        pipeline.expire(keys.sessions(tenant), self._age)
        await pipeline.execute()

    async def _ids(self, session: str, branch: str) -> list[bytes] | None:
        packed: Any = await self._redis.hget(keys.session_branches(session), branch)
        return None if packed is None else packed.split()

    async def _entries(self, session: str, ids: Sequence[bytes]) -> list[Entry]:
        if not ids:
            return []
        found: list[Any] = await self._redis.hmget(keys.session_messages(session), list(ids))
        return [
            msgspec.structs.replace(_entry(data), id=id.decode())
            for id, data in zip(ids, found, strict=True)
            if data is not None
        ]


def exists(name: str) -> BranchExistsError:
    return BranchExistsError(f"there is a branch {name!r} in this session already", param="name")


def full() -> InvalidRequestError:
    return InvalidRequestError(f"a session has {MOST_BRANCHES} branches at most", code="too_many_branches")


def no_branch(name: str) -> BranchNotFoundError:
    return BranchNotFoundError(f"there is no branch {name[:80]!r} in this session", param="branch")


def _before(entry: Entry, request: str, operation: str) -> bool:
    return (entry.request, entry.operation) != (request, operation)


def _now() -> str:
    return f"{time.time():.3f}"


def _info(session: str, fields: Mapping[bytes, bytes], branches: Mapping[bytes, bytes]) -> SessionInfo:
    return SessionInfo(
        id=session,
        created=float(fields[b"created"]),
        updated=float(fields[b"updated"]),
        name=fields[b"name"].decode(),
        metadata=_strings(fields[b"metadata"]),
        branches=tuple(_branch(name.decode(), packed, fields) for name, packed in branches.items()),
    )


def _branch(name: str, packed: bytes, fields: Mapping[bytes, bytes]) -> BranchInfo:
    about = _about(fields.get(f"branch:{name}".encode(), b"{}"))
    writer = fields.get(f"writer:{name}".encode(), b"").decode()
    return BranchInfo(name, about.created, len(packed.split()), about.origin, about.at, writer)
