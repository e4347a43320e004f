"""Conversations: sessions, their branches, and what was said on each."""

from __future__ import annotations

from fastapi import APIRouter, Request
from railstream.errors import BranchBusyError, InvalidRequestError
from starlette.responses import Response

from railstream_gateway import openapi
from railstream_gateway.accept.body import read_body
from railstream_gateway.accept.branch_turns import runs
from railstream_gateway.accept.chat_request import S, read_as
from railstream_gateway.accept.session_body import (
    BranchBody,
    RenameBody,
    SessionBody,
    branch_of,
    message_of,
    session_of,
)
from railstream_gateway.gateway import Gateway
from railstream_gateway.views.errors import json_answer

router = APIRouter(prefix="/v1/sessions")
LISTED = 100


@router.post("", openapi_extra=openapi.CREATE_SESSION, response_model=None)
async def create_session(request: Request) -> Response:
    """Begin a conversation. It has one branch, `main`."""
    body = await _body(request, SessionBody)
    made = await _gateway(request).sessions.create(_tenant(request), name=body.name or "", metadata=body.metadata)
    return json_answer(session_of(made))


@router.get("", openapi_extra=openapi.LIST_SESSIONS, response_model=None)
async def list_sessions(request: Request) -> Response:
    """The conversations of this API key, the latest used first."""
    given = request.query_params.get("limit", "20")
    if not given.isdigit() or not 1 <= int(given) <= LISTED:
        raise InvalidRequestError(f"limit is a number from 1 to {LISTED}, not {given[:80]!r}", param="limit")
    found = await _gateway(request).sessions.listed(_tenant(request), int(given))
    return json_answer({"object": "list", "data": [session_of(info, branches=False) for info in found]})


@router.get("/{id}", openapi_extra=openapi.GET_SESSION, response_model=None)
async def get_session(request: Request, id: str) -> Response:
    """A conversation and its branches."""
    return json_answer(session_of(await _gateway(request).sessions.read(id, _tenant(request))))


@router.post("/{id}", openapi_extra=openapi.CHANGE_SESSION, response_model=None)
async def change_session(request: Request, id: str) -> Response:
    """Rename a conversation, or give it other metadata."""
    body = await _body(request, SessionBody)
    sessions = _gateway(request).sessions
    changed = await sessions.change(id, _tenant(request), name=body.name, metadata=body.metadata)
    return json_answer(session_of(changed))


@router.delete("/{id}", openapi_extra=openapi.DELETED, response_model=None)
async def delete_session(request: Request, id: str) -> Response:
    """Forget a conversation and all that was said in it."""
    await _gateway(request).sessions.delete(id, _tenant(request))
    return json_answer({"id": id, "object": "session.deleted", "deleted": True})


@router.post("/{id}/branches", openapi_extra=openapi.CREATE_BRANCH, response_model=None)
async def create_branch(request: Request, id: str) -> Response:
    """A new branch: empty, or forked `from` another, up to and with the message `at`."""
    body = await _body(request, BranchBody)
    if body.at and not body.origin:
        raise InvalidRequestError("at is a message of the branch that is named by from", param="at")
    made = await _gateway(request).sessions.create_branch(
        id, _tenant(request), body.name, origin=body.origin or "", at=body.at or ""
    )
    return json_answer(branch_of(made))


@router.post("/{id}/branches/{name}", openapi_extra=openapi.RENAME_BRANCH, response_model=None)
async def rename_branch(request: Request, id: str, name: str) -> Response:
    """Rename a branch. 409 while somebody is answered on it."""
    body = await _body(request, RenameBody)
    gateway = _gateway(request)
    holder = await gateway.sessions.rename_branch(id, _tenant(request), name, body.name)
    if holder and not await runs(gateway.redis, holder):
        holder = await gateway.sessions.rename_branch(id, _tenant(request), name, body.name, over=holder)
    if holder:
        raise BranchBusyError(f"{holder} is being answered on branch {name!r}", param="name")
    info = await gateway.sessions.read(id, _tenant(request))
    return json_answer(next(branch_of(branch) for branch in info.branches if branch.name == body.name))


@router.delete("/{id}/branches/{name}", openapi_extra=openapi.DELETED, response_model=None)
async def delete_branch(request: Request, id: str, name: str) -> Response:
    """Forget a branch; its messages go with it, as far as no other branch has them."""
    await _gateway(request).sessions.delete_branch(id, _tenant(request), name)
    return json_answer({"name": name, "object": "session.branch.deleted", "deleted": True})


@router.get("/{id}/branches/{name}/messages", openapi_extra=openapi.LIST_MESSAGES, response_model=None)
async def list_messages(request: Request, id: str, name: str) -> Response:
    """What was said on a branch, oldest first."""
    found = await _gateway(request).sessions.messages(id, _tenant(request), name)
    return json_answer({"object": "list", "data": [message_of(entry) for entry in found]})


async def _body(request: Request, schema: type[S]) -> S:
    settings = _gateway(request).settings
    return read_as(await read_body(request, settings.body_limit, settings.send_timeout) or b"{}", schema)


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


def _tenant(request: Request) -> str:
    tenant: str = request.state.tenant
    return tenant
