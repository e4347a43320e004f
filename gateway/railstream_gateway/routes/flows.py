"""Flows: graphs of operations on one resumable stream."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from railstream.errors import InvalidRequestError, RailstreamError, RequestNotFoundError
from railstream.events import Started
from railstream.graph import check_graph
from railstream.job import Job, Operation
from railstream.requests import Record
from starlette.responses import Response

from railstream_gateway.accept import records, submission
from railstream_gateway.accept.body import read_body
from railstream_gateway.accept.chat_request import read_as
from railstream_gateway.accept.flow_body import FlowBody, FlowOperation
from railstream_gateway.accept.resolution import resolve_one
from railstream_gateway.accept.served import Served
from railstream_gateway.gateway import Gateway
from railstream_gateway.openapi import CANCEL_FLOW, FLOW, GET_FLOW
from railstream_gateway.routes.completions import RETRY_AFTER, checked, flag, replay, stream_again
from railstream_gateway.stream.plain_response import plain_response
from railstream_gateway.stream.stream_response import StreamResponse
from railstream_gateway.views.errors import json_answer
from railstream_gateway.views.flow import FlowView, edges_of, flow_object
from railstream_gateway.views.openai.completion import Fold

router = APIRouter(prefix="/v1/flows")


@router.post("", openapi_extra=FLOW, response_model=None)
async def create_flow(request: Request) -> Response:
    """Run a graph of operations; with `stream: true` as server-sent events that name the operation they are of."""
    gateway: Gateway = request.app.state.gateway
    settings = gateway.settings
    try:
        data = await read_body(request, settings.body_limit, settings.send_timeout)
        body = read_as(data, FlowBody)
        served = [_served(gateway, operation, stream=body.stream) for operation in body.operations]
        job = _job(body, served, msgspec.json.decode(data), request.state.tenant)
        check_graph(edges_of(job.operations))
        pool = submission.pool_of(gateway, served)
        job, reading = await submission.submit(gateway, request, job, pool, lambda: sha256(data).hexdigest())
    except RailstreamError as error:
        gateway.telemetry.instruments.rejected(error.code)
        raise
    headers: dict[str, str] = request.state.headers
    if body.stream:
        return StreamResponse(
            reading,
            FlowView(),
            keep_alive=settings.keep_alive,
            send_timeout=settings.send_timeout,
            headers=headers,
            waits=True,
        )
    created = int(job.created)

    def respond(fold: Fold) -> Response:
        status = type(fold.terminal).__name__.lower()
        return json_answer(flow_object(job.id, created, fold, status), 200, headers)

    shared = Started(job.id, job.model, created, job.configs)
    return await plain_response(request, reading, shared, respond, settings.plain_keep_alive)


@router.get("/{id}", openapi_extra=GET_FLOW, response_model=None)
async def get_flow(request: Request, id: str) -> Response:
    """What came of a flow, or 202 while it runs; with `?stream=true` its stream again, from any position."""
    gateway: Gateway = request.app.state.gateway
    streaming = flag(request.query_params.get("stream"))
    record = await _load(gateway, request, id)
    if streaming:
        return await stream_again(gateway, request, record, FlowView())
    headers = {"x-request-id": id}
    record = await checked(gateway, record)
    if not record.ended:
        return json_answer(record.describe() | {"object": "flow"}, 202, headers | RETRY_AFTER)
    fold = await replay(gateway, record)
    return json_answer(flow_object(id, record.created, fold, record.status), 200, headers)


@router.post("/{id}/cancel", openapi_extra=CANCEL_FLOW, response_model=None)
async def cancel_flow(request: Request, id: str) -> Response:
    """Stop a flow, queued or running. Idempotent."""
    gateway: Gateway = request.app.state.gateway
    await _load(gateway, request, id)
    if await records.cancel(gateway.redis, id, reason="request", retention=gateway.settings.retention):
        gateway.telemetry.instruments.cancelled("request")
    record = await _load(gateway, request, id)
    return json_answer(record.describe() | {"object": "flow"}, 200, {"x-request-id": id})


async def _load(gateway: Gateway, request: Request, id: str) -> Record:
    record = await records.load(gateway.redis, id, request.state.tenant)
    if record.kind != "flow":
        raise RequestNotFoundError(f"{id!r} is not a flow", param="id")
    return record


def _served(gateway: Gateway, operation: FlowOperation, *, stream: bool) -> Served:
    try:
        ids = (operation.config_id,) if operation.config_id else ()
        return resolve_one(gateway.configs, ids, operation.model, {}, stream=stream)
    except InvalidRequestError as error:
        error.message = f"operation {operation.id!r}: {error.message}"
        error.param = f"operations.{operation.id}"
        raise


def _job(body: FlowBody, served: list[Served], sent: dict[str, Any], tenant: str) -> Job:
    """Without its id."""
    ids = [operation.id for operation in body.operations]
    twice = next((id for id in ids if ids.count(id) > 1), None)
    if twice is not None:
        raise InvalidRequestError(f"there are two operations {twice!r}", param="operations")
    session = (body.railstream.session if body.railstream else None) or ""
    if session and not any(operation.branch for operation in body.operations):
        raise InvalidRequestError(
            "a flow has a session for the branches of its operations: name one", param="railstream"
        )
    params = {name: sent[name] for name in ("temperature", "max_tokens") if sent.get(name) is not None}
    return Job(
        id="",
        model=",".join(dict.fromkeys(one.model for one in served)),
        created=time.time(),
        configs=served[0].config_ids,
        config_digest=served[0].config.digest,
        messages=sent.get("messages") or [],
        params=params,
        kind="flow",
        stream=body.stream,
        tenant=tenant,
        session=session,
        context=body.context or {},
        operations=tuple(map(_operation, body.operations, served)),
        concurrency=body.max_concurrent,
        on_failure=body.on_failure,
    )


def _operation(asked: FlowOperation, served: Served) -> Operation:
    return Operation(
        id=asked.id,
        model=served.model,
        configs=served.config_ids,
        config_digest=served.config.digest,
        instruction=asked.instruction,
        branch=asked.branch or "",
        needs=tuple(dict.fromkeys((*asked.depends_on, *asked.context_from))),
        context_from=tuple(asked.context_from),
    )
