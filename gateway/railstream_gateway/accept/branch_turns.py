"""Begin a request's turn on its branch: one writer at a time, and the next one as soon as that has ended.

A flow is the writer of every branch that its operations name, from here to its end; what they say there is theirs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from railstream import keys
from railstream.conversations import MAIN, Sessions, session_of_thread
from railstream.errors import BranchBusyError, InvalidRequestError
from railstream.ids import created_at
from railstream.job import Job
from railstream.requests import ENDED
from redis.asyncio import Redis
from redis.exceptions import RedisError

from railstream_gateway.accept.chat_request import ChatRequest

YOUNG: Final = 30.0
"""Seconds that a request may take from its turn to its place in the queue."""
TRIES: Final = 3


def place_of(asked: ChatRequest, tenant: str) -> tuple[str, str]:
    """Session and branch of a request, both empty when it has none. A thread is the main branch of its session."""
    if asked.thread_id:
        return session_of_thread(sha256(f"{tenant}\0{asked.thread_id}".encode()).hexdigest()), MAIN
    return (asked.session, asked.branch or MAIN) if asked.session else ("", "")


def branches_of(job: Job) -> Mapping[str, str]:
    """The branches that a job writes on, each with the parameter that names it."""
    if not job.session or job.kind == "checks":
        return {}
    if job.kind == "chat":
        return {job.branch: "railstream.branch"}
    return {operation.branch: f"operations.{operation.id}" for operation in job.operations if operation.branch}


async def begin(sessions: Sessions, redis: Redis, job: Job, *, thread: bool) -> None:
    """Hold the job's branches until the request has ended, and append a chat's messages to its own.

    Raises:
        BranchBusyError: another request is being answered on a branch.
        SessionNotFoundError, BranchNotFoundError: there is none, for this API key.
    """
    messages = job.messages if job.kind == "chat" else []
    held: list[str] = []
    try:
        for branch, param in branches_of(job).items():
            await _hold(sessions, redis, job, branch, messages, param=param, thread=thread)
            held.append(branch)
    except BaseException:
        await abandon(sessions, job, held)
        raise


async def abandon(sessions: Sessions, job: Job, branches: Sequence[str]) -> None:
    """The job is not queued: nobody will answer."""
    for branch in branches:
        with contextlib.suppress(RedisError):
            await sessions.abandon_turn(job.session, branch, job.id)


async def _hold(
    sessions: Sessions,
    redis: Redis,
    job: Job,
    branch: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    param: str,
    thread: bool,
) -> None:
    over = holder = ""
    for _ in range(TRIES):
        try:
            holder = await sessions.begin_turn(
                job.session, job.tenant, branch, job.id, messages, over=over, create=thread
            )
        except InvalidRequestError as error:
            error.param = param if error.param == "branch" else error.param
            raise
        if not holder:
            return
        if await runs(redis, holder):
            break
        over = holder
    raise BranchBusyError(
        f"{holder} is being answered on branch {branch!r}: wait for its end, cancel it, or fork the branch", param=param
    )


async def runs(redis: Redis, request_id: str) -> bool:
    """Whether a request may still write its answer. One that nobody knows may be on its way to the queue."""
    status: Any = await redis.hget(keys.request(request_id), "status")
    if status is not None:
        return status.decode() not in ENDED
    return time.time() - created_at(request_id) < YOUNG
