"""Schemas of request bodies for the OpenAPI document, made from what checks them."""

from __future__ import annotations

from typing import Any

import msgspec

from railstream_gateway.chat_body import ChatBody, ChecksBody, FlowBody

(_chat, _checks, _flow), COMPONENTS = msgspec.json.schema_components(
    (ChatBody, ChecksBody, FlowBody), ref_template="#/components/schemas/{name}"
)


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


CHAT = _body(_chat)
CHECKS = _body(_checks)
FLOW = _body(_flow)


def add_components(document: dict[str, Any]) -> dict[str, Any]:
    """Put the schemas that bodies refer to into a document."""
    document.setdefault("components", {}).setdefault("schemas", {}).update(COMPONENTS)
    return document
