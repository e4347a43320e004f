"""Put a job into the queue, once: idempotent on the request id, and on the client's own key.

The hash, the job and the mark that the job is queued leave in one pipeline, in this order. Who finds the hash
without the mark sends the job again; of two entries of one request the workers drop the second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import msgspec
from faststream.redis.parser import BinaryMessageFormatV1
from railstream import job as jobs
from railstream import keys
from railstream.errors import IdempotencyConflictError, InvalidRequestError
from railstream.ids import new_request_id
from railstream.job import Job
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from railstream_gateway.records import TTL

log = logging.getLogger(__name__)

LONGEST_KEY: Final = 255
MARK: Final = "enqueued"


@dataclass(frozen=True, slots=True)
class Identity:
    """The id of a request. ``repeated``: its Idempotency-Key was used before, with the same body."""

    request_id: str
    repeated: bool = False


async def identify(redis: Redis, key: str | None, tenant: str, fingerprint: Callable[[], str]) -> Identity:
    """A new request id, or the one that the Idempotency-Key stands for.

    Raises:
        IdempotencyConflictError: the key stands for another body.
    """
    if key is None:
        return Identity(new_request_id())
    if not key or len(key) > LONGEST_KEY:
        raise InvalidRequestError(f"an Idempotency-Key has 1 to {LONGEST_KEY} characters", param="Idempotency-Key")
    digest = sha256(f"{tenant}\0{key}".encode()).hexdigest()
    name = keys.idempotency(digest)
    request_id = new_request_id(partition=digest[-2:])
    asked = fingerprint()
    while not await redis.set(name, f"{request_id} {asked}", nx=True, ex=TTL):
        kept = await redis.get(name)
        if not isinstance(kept, bytes):
            continue  # it expired between the two commands
        first, _, body = kept.decode().partition(" ")
        if body != asked:
            raise IdempotencyConflictError(
                f"the Idempotency-Key of request {first} came again with another body", param="Idempotency-Key"
            )
        return Identity(first, repeated=True)
    return Identity(request_id)


async def is_enqueued(redis: Redis, request_id: str) -> bool:
    """Whether the job of a request is known to be in the queue."""
    return bool(await redis.hexists(keys.request(request_id), MARK))


async def enqueue(redis: Redis, job: Job, *, pool: str, policy: str, headers: dict[str, str], gateway: str) -> str:
    """Queue a job, with one reader of this gateway counted; returns its entry's id. A connection that breaks is tried
    once more.

    Raises:
        redis.RedisError: Redis is down or refuses; the job may be queued all the same.
    """
    message = await _message(job, headers)
    fields = _fields(job, policy, gateway)
    try:
        return await _send(redis, job, message, pool, fields)
    except (RedisConnectionError, RedisTimeoutError) as error:
        log.info("request %s: sent to the queue again: %s", job.id, error)
        return await _send(redis, job, message, pool, fields)


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


async def _send(redis: Redis, job: Job, message: bytes, pool: str, fields: dict[Any, Any]) -> str:
    key = keys.request(job.id)
    pipeline = redis.pipeline(transaction=False)
    pipeline.hsetnx(key, "status", "queued")
    pipeline.hset(key, mapping=fields)
    pipeline.expire(key, TTL)
    pipeline.xadd(keys.jobs(pool), {"__data__": message})
    pipeline.hset(key, MARK, "1")
    entry: bytes = (await pipeline.execute())[3]
    return entry.decode()


def _fields(job: Job, policy: str, gateway: str) -> dict[Any, Any]:
    return {
        "kind": job.kind,
        "model": job.model,
        "configs": msgspec.json.encode(job.configs),
        "tenant": job.tenant,
        "created": f"{job.created:.3f}",
        "stream": int(job.stream),
        "include_usage": int(job.include_usage),
        "on_disconnect": policy,
        "readers": 1,
        f"readers:{gateway}": 1,
        "traceparent": job.traceparent,
    }
