"""A regex rail holds back only what may become a match: the first chunk does not wait for a window."""

from __future__ import annotations

from bench.cases.first import add_rows, first_chunks
from bench.settings import Bench


async def rails(bench: Bench) -> None:
    direct, run = await first_chunks(bench, "regex")
    add_rows(bench, "rails", direct, run)
