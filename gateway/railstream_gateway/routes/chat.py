"""Ask for a completion: check, admit, queue, and relay or collect what comes back."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request
from railstream.errors import RailstreamError
from railstream.events import Started
from railstream.job import Job, Operation
from starlette.responses import Response

from railstream_gateway.accept import branch_turns as turns
from railstream_gateway.accept import submission
from railstream_gateway.accept.body import read_body
from railstream_gateway.accept.chat_request import ChatRequest, read_chat, read_checks
from railstream_gateway.accept.resolution import resolve
from railstream_gateway.accept.served import Served
from railstream_gateway.gateway import Gateway
from railstream_gateway.openapi import CHAT, CHECKS
from railstream_gateway.stream.plain_response import plain_response
from railstream_gateway.stream.reading import Reading
from railstream_gateway.stream.stream_response import StreamResponse
from railstream_gateway.views.errors import ending_answer
from railstream_gateway.views.event_ids import WithoutIds, wants_event_ids
from railstream_gateway.views.openai.completion import Fold
from railstream_gateway.views.openai.frames import OpenAIView

router = APIRouter()


@router.post("/v1/chat/completions", openapi_extra=CHAT, response_model=None)
async def create_completion(request: Request) -> Response:
    """Generate a completion; with `stream: true` as server-sent events."""
    return await _serve(request, read_chat)


@router.post("/v1/checks", openapi_extra=CHECKS, response_model=None)
async def create_check(request: Request) -> Response:
    """Run a config's rails over messages, without generating."""
    return await _serve(request, read_checks)


async def _serve(request: Request, read: Callable[[bytes], ChatRequest]) -> Response:
    gateway: Gateway = request.app.state.gateway
    try:
        with_ids = wants_event_ids(request)
        asked, job, reading = await _accept(gateway, request, read)
    except RailstreamError as error:
        gateway.telemetry.instruments.rejected(error.code)
        raise
    headers: dict[str, str] = request.state.headers
    if asked.stream:
        settings = gateway.settings
        return StreamResponse(
            reading,
            OpenAIView() if with_ids else WithoutIds(OpenAIView()),
            keep_alive=settings.keep_alive,
            send_timeout=settings.send_timeout,
            headers=headers,
            waits=True,
        )
    shared = Started(job.id, job.model, int(job.created), job.configs)

    def respond(fold: Fold) -> Response:
        return ending_answer(fold, with_log=asked.wants_log, headers=headers)

    return await plain_response(request, reading, shared, respond, gateway.settings.plain_keep_alive)


async def _accept(
    gateway: Gateway, request: Request, read: Callable[[bytes], ChatRequest]
) -> tuple[ChatRequest, Job, Reading]:
    """Everything that can refuse a request, then its queueing."""
    asked = read(await read_body(request, gateway.settings.body_limit, gateway.settings.send_timeout))
    models = asked.models or (asked.model,)
    served = [resolve(gateway.configs, dataclasses.replace(asked, model=model)) for model in models]
    job = _job(asked, served, request.state.tenant)
    pool = submission.pool_of(gateway, served)
    thread = bool(asked.thread_id)
    job, reading = await submission.submit(gateway, request, job, pool, asked.fingerprint, thread=thread)
    return asked, job, reading


def _operations(asked: ChatRequest, served: Sequence[Served]) -> tuple[Operation, ...]:
    """One for each of several models."""
    if not asked.models:
        return ()
    return tuple(Operation(one.model, one.model, one.config_ids, one.config.digest) for one in served)


def _job(asked: ChatRequest, served: Sequence[Served], tenant: str) -> Job:
    """Without its id."""
    session, branch = turns.place_of(asked, tenant)
    return Job(
        id="",
        model=",".join(one.model for one in served),
        created=time.time(),
        configs=served[0].config_ids,
        config_digest=served[0].config.digest,
        operations=_operations(asked, served),
        concurrency=max(1, len(served)),
        messages=asked.messages,
        params=asked.params,
        kind=asked.kind,
        stream=asked.stream,
        include_usage=asked.include_usage,
        tenant=tenant,
        session=session,
        branch=branch,
        context=asked.context,
        options=asked.options,
    )
