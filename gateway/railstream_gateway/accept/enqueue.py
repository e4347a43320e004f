"""Give a request its id, by the client's Idempotency-Key if it has one, and put its job into the queue.

A key stands for one request of one endpoint for as long as that can still be answered: a request whose answer has
expired, that was cancelled because its only reader left, or that no worker has run gives the key to a new request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from faststream.redis import BinaryMessageFormatV1
from railstream import job as jobs
from railstream import keys, requests
from railstream.errors import IdempotencyConflictError, InvalidRequestError
from railstream.ids import created_at, new_request_id
from railstream.job import Job
from railstream.requests import TTL, Record
from railstream.topology.repeating import RepeatableScript
from redis.asyncio import Redis

LONGEST_KEY: Final = 255
YOUNG: Final = 30.0
"""Seconds that a request may take from its Idempotency-Key to its place in the queue."""
NEVER_RUN: Final = frozenset({"job_lost", "queue_timeout"})
"""Codes of ends that a repeat of the request does not get as its answer."""

_CLAIM: Final = RepeatableScript("""
-- KEYS idempotency   ARGV wanted, seconds, what it gives way to or ''.  Returns what the key stands for
local kept = redis.call('GET', KEYS[1])
if not kept or kept == ARGV[3] then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
  return ARGV[1]
end
return kept
""")


@dataclass(frozen=True, slots=True)
class Identity:
    """The id of a request. ``record``: what is known of it when its Idempotency-Key has been used before."""

    request_id: str
    repeated: bool = False
    record: Record | None = None

    @property
    def attaches(self) -> bool:
        """Whether the request is in the queue, running or over, so that there is nothing to queue."""
        return self.record is not None and self.record.enqueued


async def identify(
    redis: Redis, key: str | None, tenant: str, fingerprint: Callable[[], str], *, kind: str = "chat"
) -> Identity:
    """A new request id, or the one that the Idempotency-Key stands for at the endpoint of this kind of job.

    Raises:
        IdempotencyConflictError: the key stands for another body.
    """
    if key is None:
        return Identity(new_request_id())
    if not key or len(key) > LONGEST_KEY:
        raise InvalidRequestError(f"an Idempotency-Key has 1 to {LONGEST_KEY} characters", param="Idempotency-Key")
    place = tenant if kind == "chat" else f"{tenant}\0{kind}"
    digest = sha256(f"{place}\0{key}".encode()).hexdigest()
    request_id, body = new_request_id(partition=digest[-2:]), fingerprint()
    stale = ""
    while True:
        kept = await _claim(redis, keys.idempotency(digest), f"{request_id} {body}", stale)
        first, _, first_body = kept.partition(" ")
        if first == request_id:
            return Identity(request_id)
        if first_body != body:
            raise IdempotencyConflictError(
                f"the Idempotency-Key of request {first} came again with another body: use a new key",
                param="Idempotency-Key",
            )
        fields: dict[Any, Any] = await redis.hgetall(keys.request(first))
        record = requests.decode(first, fields)
        if _answers(first, record):
            return Identity(first, repeated=True, record=record)
        stale = kept


async def _claim(redis: Redis, name: str, wanted: str, stale: str) -> str:
    kept: bytes = await redis.eval(_CLAIM, 1, name, wanted, TTL, stale)
    return kept.decode()


def _answers(request_id: str, record: Record | None) -> bool:
    """Whether a repeat gets this request's answer. One that nobody knows may be on its way to the queue."""
    if record is None:
        return requests.now() - created_at(request_id) < YOUNG
    if record.error in NEVER_RUN:
        return False
    return record.cancel != "disconnect" or record.status in ("finished", "blocked", "failed")


async def enqueue(redis: Redis, job: Job, *, pool: str, policy: str, headers: dict[str, str], gateway: str) -> str:
    """Queue a job, with one reader of this gateway counted; returns its entry's id. See `railstream.requests.queue`."""
    message = await _message(job, headers)
    return await requests.queue(redis, job, message, pool=pool, policy=policy, gateway=gateway)


async def _message(job: Job, headers: dict[str, str]) -> bytes:
    """FastStream's own envelope, so that its subscribers read body and headers. The body stands last in it, as it is;
    given to the encoder it would be copied three times, which a long prompt makes the other streams feel.
    """
    head: bytes = await BinaryMessageFormatV1.encode(
        message=b"",
        reply_to=None,
        headers={"content-type": "application/json", **headers},
        correlation_id=job.id,
    )
    return head + jobs.encode(job)
