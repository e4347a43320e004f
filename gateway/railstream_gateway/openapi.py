"""Schemas of bodies and answers for the OpenAPI document, made from what checks and writes them."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from railstream_gateway.accept.chat_body import ChatBody, ChecksBody
from railstream_gateway.accept.flow_body import FlowAnswer, FlowBody, FlowStatus
from railstream_gateway.accept.session_body import (
    Branch,
    BranchBody,
    Deleted,
    RenameBody,
    Session,
    SessionBody,
    SessionList,
    SessionMessageList,
)
from railstream_gateway.openapi_answers import (
    Alive,
    ChatCompletion,
    CheckResult,
    CompletionStatus,
    ConfigId,
    ModelList,
    Ready,
)
from railstream_gateway.openapi_details import add_details
from railstream_gateway.openapi_texts import add_texts


class ErrorObject(Struct):
    message: str
    type: str
    param: str | None
    code: str


class Error(Struct):
    error: ErrorObject


SHAPES: Final = (
    ChatBody,
    ChecksBody,
    FlowBody,
    FlowAnswer,
    FlowStatus,
    SessionBody,
    BranchBody,
    RenameBody,
    Session,
    SessionList,
    Branch,
    SessionMessageList,
    Deleted,
    Error,
    ChatCompletion,
    CompletionStatus,
    CheckResult,
    ModelList,
    ConfigId,
    Ready,
    Alive,
)
_schemas, COMPONENTS = msgspec.json.schema_components(SHAPES, ref_template="#/components/schemas/{name}")
_SCHEMA: Final[dict[type[Struct], dict[str, Any]]] = dict(zip(SHAPES, _schemas, strict=True))
JSON: Final = "application/json"
EVENTS: Final = {"text/event-stream": {"schema": {"type": "string"}}}


def takes(body: type[Struct], *, required: bool = True) -> dict[str, Any]:
    return {"requestBody": {"required": required, "content": {JSON: {"schema": _SCHEMA[body]}}}}


def gives(answer: type[Struct], *, stream: bool = False, status: str = "200", meaning: str = "Done") -> dict[str, Any]:
    """``stream``: it may be server-sent events instead."""
    content: dict[str, Any] = {JSON: {"schema": _SCHEMA[answer]}}
    return {"responses": {status: {"description": meaning, "content": content | (EVENTS if stream else {})}}}


def both(*parts: dict[str, Any]) -> dict[str, Any]:
    """One operation's description of several parts."""
    whole: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            whole[name] = whole.get(name, {}) | value
    return whole


CHAT = takes(ChatBody)
CHECKS = takes(ChecksBody)

RUNS = gives(FlowStatus, status="202", meaning="It still runs")
FLOW = both(takes(FlowBody), gives(FlowAnswer, stream=True, meaning="The flow, or its stream"))
GET_FLOW = both(gives(FlowAnswer, stream=True, meaning="The flow, or its stream"), RUNS)
CANCEL_FLOW = gives(FlowStatus)

CREATE_SESSION = both(takes(SessionBody, required=False), gives(Session))
CHANGE_SESSION = both(takes(SessionBody), gives(Session))
LIST_SESSIONS = {
    "parameters": [
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}}
    ]
} | gives(SessionList)
GET_SESSION = gives(Session)
DELETED = gives(Deleted)
CREATE_BRANCH = both(takes(BranchBody), gives(Branch))
RENAME_BRANCH = both(takes(RenameBody), gives(Branch))
LIST_MESSAGES = gives(SessionMessageList)


def add_components(document: dict[str, Any], *, wants_key: bool = False) -> dict[str, Any]:
    """Put the schemas that bodies refer to into a document, and how every refusal looks."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas.update(COMPONENTS)
    refusal = {"description": "Refused", "content": {JSON: {"schema": _SCHEMA[Error]}}}
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # FastAPI checks nothing here
            operation["responses"]["4XX"] = refusal
    add_details(document, wants_key=wants_key)
    add_texts(schemas)
    return document
