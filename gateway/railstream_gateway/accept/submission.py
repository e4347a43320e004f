"""Submit a job: give it its id, hear its channel, begin its turn, queue it; or attach to the one it repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from fastapi import Request
from railstream import keys, logs
from railstream.errors import InvalidRequestError
from railstream.job import Job
from railstream.telemetry.names import MESSAGE_ID

from railstream_gateway.accept import branch_turns as turns
from railstream_gateway.accept import records
from railstream_gateway.accept.enqueue import enqueue, identify
from railstream_gateway.accept.presence import CANCEL, HEADER, parse_policy
from railstream_gateway.accept.served import Served
from railstream_gateway.gateway import Gateway
from railstream_gateway.stream.reading import Reading


def pool_of(gateway: Gateway, served: Sequence[Served]) -> str:
    """The pool whose workers run all of it."""
    pools = {gateway.pool_of(one.config.railstream.pool) for one in served}
    if len(pools) > 1:
        raise InvalidRequestError(f"one request runs in one pool, and this one names {', '.join(sorted(pools))}")
    return pools.pop()


async def submit(
    gateway: Gateway, request: Request, job: Job, pool: str, fingerprint: Callable[[], str], *, thread: bool = False
) -> tuple[Job, Reading]:
    """The job with its id, and its reading, open.

    ``fingerprint`` of its body is asked for where there is an Idempotency-Key; ``thread``: its session is made if it is
    not there.
    """
    policy = parse_policy(request.headers.get(HEADER))
    gateway.open_streams.check_room()
    key = request.headers.get("idempotency-key")
    identity = await identify(gateway.redis, key, job.tenant, fingerprint, kind=job.kind)
    deadline = job.created + gateway.settings.queue_timeout
    job = msgspec.structs.replace(job, id=identity.request_id, deadline=deadline)
    request.state.headers = {"x-request-id": job.id}
    logs.bind(request_id=job.id, trace_id=request.state.span.trace_id)
    attached = identity.attaches
    if not attached:
        gateway.admission.admit(pool)
    # The request's channel is heard before the job is queued: nothing that is published can be missed.
    reading = Reading(gateway, job.id)
    await reading.open(new=not identity.repeated)
    request.state.summary.accepted(job, reading)
    try:
        if attached:
            await _attach(gateway, request, job.id, policy)
        else:
            await _begin(gateway, request, job, pool, policy or CANCEL, thread=thread)
    except BaseException:
        reading.abandon()
        raise
    return job, reading


async def _attach(gateway: Gateway, request: Request, request_id: str, policy: str) -> None:
    record = await records.load(gateway.redis, request_id, request.state.tenant)
    await gateway.presence.attach(request_id, policy)
    gateway.telemetry.tracing.resume(request.state.span, record.traceparent)
    gateway.telemetry.instruments.resumed()


async def _begin(gateway: Gateway, request: Request, job: Job, pool: str, policy: str, *, thread: bool) -> None:
    await turns.begin(gateway.sessions, gateway.redis, job, thread=thread)
    try:
        await _queue(gateway, request, job, pool, policy)
    except BaseException:
        await turns.abandon(gateway.sessions, job, list(turns.branches_of(job)))
        raise


async def _queue(gateway: Gateway, request: Request, job: Job, pool: str, policy: str) -> None:
    headers: dict[str, str] = {}
    span = gateway.telemetry.tracing.send(request.state.span.context, headers, job.id, destination=keys.jobs(pool))
    error = ""
    try:
        job = msgspec.structs.replace(job, traceparent=span.traceparent)
        name = gateway.presence.name
        entry = await enqueue(gateway.redis, job, pool=pool, policy=policy, headers=headers, gateway=name)
        span.set(MESSAGE_ID, entry)
    except BaseException as raised:
        error = type(raised).__name__
        raise
    finally:
        span.end(error)
    gateway.telemetry.instruments.admitted()
