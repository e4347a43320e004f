"""A completion that exists: its answer or status, its stream again, its native events, its cancel."""

from __future__ import annotations

from fastapi import APIRouter, Request
from railstream.errors import InvalidRequestError
from railstream.requests import Record
from starlette.responses import Response

from railstream_gateway.accept import records
from railstream_gateway.accept.admission import unavailable
from railstream_gateway.accept.presence import HEADER, parse_policy
from railstream_gateway.gateway import Gateway
from railstream_gateway.stream.cursor import Position, locate, parse_cursor
from railstream_gateway.stream.reading import Reading
from railstream_gateway.stream.relay import Relay
from railstream_gateway.stream.stream_response import StreamResponse
from railstream_gateway.stream.view import View
from railstream_gateway.views.errors import ending_answer, json_answer
from railstream_gateway.views.event_ids import WithoutIds, wants_event_ids
from railstream_gateway.views.native import NativeView
from railstream_gateway.views.openai.completion import Fold
from railstream_gateway.views.openai.frames import OpenAIView

router = APIRouter(prefix="/v1/chat/completions")
RETRY_AFTER = {"retry-after": "1"}


@router.get("/{id}", response_model=None)
async def get_completion(request: Request, id: str) -> Response:
    """The finished completion, or 202 while it runs; with `?stream=true` its stream again, from any position."""
    gateway: Gateway = request.app.state.gateway
    streaming = flag(request.query_params.get("stream"))
    record = await records.load(gateway.redis, id, request.state.tenant)
    if streaming:
        return await _stream(gateway, request, record, native=False)
    headers = {"x-request-id": id}
    record = await checked(gateway, record)
    if not record.ended:
        # SDKs read it as a completion: its choices are none, not null.
        return json_answer(record.describe() | {"choices": []}, 202, headers | RETRY_AFTER)
    fold = await replay(gateway, record)
    return ending_answer(fold, with_log=True, headers=headers)


@router.get("/{id}/events", response_model=None)
async def get_events(request: Request, id: str) -> Response:
    """The native view: every event of the stream by its name, with its JSON."""
    gateway: Gateway = request.app.state.gateway
    record = await records.load(gateway.redis, id, request.state.tenant)
    return await _stream(gateway, request, record, native=True)


@router.post("/{id}/cancel", response_model=None)
async def cancel_completion(request: Request, id: str) -> Response:
    """Stop a completion, queued or running. Idempotent."""
    gateway: Gateway = request.app.state.gateway
    await records.load(gateway.redis, id, request.state.tenant)
    if await records.cancel(gateway.redis, id, reason="request", retention=gateway.settings.retention):
        gateway.telemetry.instruments.cancelled("request")
    record = await records.load(gateway.redis, id, request.state.tenant)
    return json_answer(record.describe(), 200, {"x-request-id": id})


async def _stream(gateway: Gateway, request: Request, record: Record, *, native: bool) -> Response:
    return await stream_again(gateway, request, record, NativeView() if native else None)


async def stream_again(gateway: Gateway, request: Request, record: Record, native: View | None) -> Response:
    """From where the client stands. ``native``: how events look, one frame each; else they are OpenAI's chunks."""
    with_ids = wants_event_ids(request)
    policy = parse_policy(request.headers.get(HEADER))
    cursor = parse_cursor(request.headers.get("last-event-id"), request.query_params.get("starting_after"))
    headers = request.state.headers = {"x-request-id": record.id}
    position = await locate(gateway.redis, record, cursor, native=native is not None)
    if position.complete or (position.read_all and _is_event_source(request)):
        return Response(status_code=204, headers=headers)  # an EventSource stops asking
    gateway.open_streams.check_room()
    reading = await _read(gateway, record, position, policy)
    request.state.summary.joined(record.id, record.model, record.configs, reading)
    gateway.telemetry.tracing.resume(request.state.span, record.traceparent)
    gateway.telemetry.instruments.resumed()
    view = native or _view(record, position)
    return StreamResponse(
        reading,
        view if with_ids else WithoutIds(view),
        keep_alive=gateway.settings.keep_alive,
        send_timeout=gateway.settings.send_timeout,
        headers=headers,
    )


def _is_event_source(request: Request) -> bool:
    """Whether a browser's ``EventSource`` asks, by the headers that its standard has it send.

    It asks again for ever, until it is answered 204: https://html.spec.whatwg.org/#the-eventsource-interface
    """
    headers = request.headers
    return (
        "last-event-id" in headers
        and headers.get("accept") == "text/event-stream"
        and "no-cache" in headers.get("cache-control", "")
    )


async def _read(gateway: Gateway, record: Record, position: Position, policy: str) -> Reading:
    reading = Reading(gateway, record.id, position=position, counted=not record.ended)
    await reading.open()
    try:
        if not record.ended:
            await gateway.presence.attach(record.id, policy)
    except BaseException:
        reading.abandon()
        raise
    return reading


def _view(record: Record, position: Position) -> View:
    view = OpenAIView(skip=position.skip)
    if position.started is not None:
        view.prime(position.started)
    else:
        view.begin(record.started())
    return view


async def replay(gateway: Gateway, record: Record) -> Fold:
    """All that an ended stream holds. Raises `Gap` when a part of it is gone."""
    fold = Fold(record.started())
    relay = Relay(gateway.redis, gateway.hub, record.id, limit=gateway.settings.client_buffer)
    relay.resync()
    while not relay.ended:
        batch = await relay.read(gateway.settings.redis_timeout)
        if not batch:
            raise unavailable()
        fold.add(batch)
    return fold


async def checked(gateway: Gateway, record: Record) -> Record:
    """The record; read again when its job was found lost or too late, and the request has been ended."""
    if record.ended or not await gateway.jobs.check(record.id):
        return record
    return await records.load(gateway.redis, record.id, record.tenant)


def flag(value: str | None) -> bool:
    if value in (None, "", "false", "0", "False"):
        return False
    if value in ("true", "1", "True"):
        return True
    raise InvalidRequestError(f"stream is true or false, not {value[:80]!r}", param="stream")
