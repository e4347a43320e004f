"""What is served: models and rails configs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from railstream.errors import ModelNotFoundError

from railstream_gateway.gateway import Gateway

router = APIRouter(prefix="/v1")


@router.get("/models")
async def list_models(request: Request) -> dict[str, Any]:
    """The models that the configs name."""
    gateway: Gateway = request.app.state.gateway
    return {"object": "list", "data": [_model(name) for name in gateway.configs.models()]}


@router.get("/models/{name:path}")
async def get_model(request: Request, name: str) -> dict[str, Any]:
    """One model."""
    gateway: Gateway = request.app.state.gateway
    if name not in gateway.configs.models():
        raise ModelNotFoundError(f"model {name[:200]!r} is not served here", param="model")
    return _model(name)


@router.get("/rails/configs")
async def list_configs(request: Request) -> list[dict[str, str]]:
    """The rails configs, by id."""
    gateway: Gateway = request.app.state.gateway
    return [{"id": id} for id in gateway.configs.ids]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "railstream"}
