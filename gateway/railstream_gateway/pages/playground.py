"""The playground: one page that streams, cancels and resumes, for a first look and for demonstrations."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from railstream_gateway.browsers import PAGE_HEADERS

router = APIRouter()


@router.get("/", include_in_schema=False)
async def playground() -> HTMLResponse:
    page = files("railstream_gateway.pages").joinpath("playground.html").read_text(encoding="utf-8")
    return HTMLResponse(page, headers={"cache-control": "no-cache", **PAGE_HEADERS})
