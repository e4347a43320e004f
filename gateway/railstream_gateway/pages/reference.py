"""The API reference: one page that shows `openapi.json`, and loads nothing from any other host."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from railstream_gateway.browsers import PAGE_HEADERS

router = APIRouter()


@router.get("/docs", include_in_schema=False)
@router.get("/redoc", include_in_schema=False)
async def reference() -> HTMLResponse:
    page = files("railstream_gateway.pages").joinpath("reference.html").read_text(encoding="utf-8")
    return HTMLResponse(page, headers={"cache-control": "no-cache", **PAGE_HEADERS})
