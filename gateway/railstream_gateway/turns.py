"""Begin a request's turn on its branch: one writer at a time, and the next one as soon as that has ended."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import Any, Final

from railstream import keys
from railstream.conversations import MAIN, Sessions, session_of_thread
from railstream.errors import BranchBusyError
from railstream.job import Job
from redis.asyncio import Redis

from railstream_gateway.records import ENDED
from railstream_gateway.requests import ChatRequest

YOUNG: Final = 30.0
"""Seconds that a request may take from its turn to its place in the queue."""
TRIES: Final = 3


def place_of(asked: ChatRequest, tenant: str) -> tuple[str, str]:
    """Session and branch of a request, both empty when it has none. A thread is the main branch of its session."""
    if asked.thread_id:
        return session_of_thread(sha256(f"{tenant}\0{asked.thread_id}".encode()).hexdigest()), MAIN
    return (asked.session, asked.branch or MAIN) if asked.session else ("", "")


async def begin(sessions: Sessions, redis: Redis, job: Job, *, thread: bool) -> None:
    """Append the job's messages to its branch, and hold the branch until the request has ended.

    Raises:
        BranchBusyError: another request is being answered on the branch.
        SessionNotFoundError, BranchNotFoundError: there is none, for this API key.
    """
    over = ""
    for _ in range(TRIES):
        holder = await sessions.begin_turn(
            job.session, job.tenant, job.branch, job.id, job.messages, over=over, create=thread
        )
        if not holder:
            return
        if await runs(redis, holder):
            break
        over = holder
    raise BranchBusyError(
        f"{holder} is being answered on branch {job.branch!r}: wait for its end, cancel it, or fork the branch",
        param="railstream.branch",
    )


async def runs(redis: Redis, request_id: str) -> bool:
    """Whether a request may still write its answer. One that nobody knows may be on its way to the queue."""
    status: Any = await redis.hget(keys.request(request_id), "status")
    if status is not None:
        return status.decode() not in ENDED
    begun = int(request_id.removeprefix("chatcmpl-")[:12], 16) / 1000
    return time.time() - begun < YOUNG
