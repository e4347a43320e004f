"""`railstream usage`: what the LLM calls of the last days have used, from the ledger in Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from railstream import usage as ledger
from railstream.cli.common_options import AsJson, RedisUrl
from railstream.cli.redis_session import ask_redis
from railstream.config.serving import Price
from railstream.errors import ConfigurationError
from railstream.local.announced import with_local_redis
from railstream.prices import cost_of, estimated_cost_of, prices_of
from railstream.settings import Settings, load
from railstream.usage import Account, Totals

UNITS = {"d": 1, "w": 7}
NO_KEY = "(no key)"
SHOWN = ("input", "output", "cached", "cache_write", "reasoning", "calls", "incomplete")
"""Columns of the table; estimates stand beside input and output."""


class By(StrEnum):
    """What a row stands for."""

    model = "model"
    key = "key"
    task = "task"


class Row(NamedTuple):
    """``dollars``: of the counted calls; ``estimated_dollars``: of the others. ``None`` where a price is missing."""

    name: str
    totals: Totals
    dollars: float | None
    estimated_dollars: float | None

    @property
    def unknown(self) -> bool:
        """No provider has counted any of its calls: its tokens are not zero but unknown."""
        return 0 < self.totals.calls == self.totals.uncounted


def usage(
    since: Annotated[str, typer.Option(help="Days back, such as 7d or 2w, or a first day such as 2026-11-01.")] = "7d",
    by: Annotated[By, typer.Option(help="One row per model, API key (its digest) or task.")] = By.model,
    config: Annotated[
        Path | None, typer.Option(help="Rails configs: with their prices, what it cost. [RAILSTREAM_CONFIG]")
    ] = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show the tokens of every LLM call since a day, cancelled and failed calls included.

    Days are UTC days. Input holds cached tokens, output holds reasoning tokens. Incomplete calls were cut before
    the provider's final figure. Most providers send it at the end only, so a call that was cancelled or blocked is
    often uncounted: its tokens are unknown, and our own estimate stands beside (a token per chunk, or four
    characters). Dollars are by the prices of the configs; what follows a ~ is an estimate, and a row that holds a
    model without a price has none.
    """
    settings = with_local_redis(load(Settings, redis_url=redis_url, config=config))
    days = ledger.days_until(ledger.today(), _days_of(since))
    prices = prices_of(settings.config)
    rows = _grouped(ask_redis(settings, "usage", lambda redis: ledger.read(redis, days)), by, prices)
    if as_json:
        shown = [_as_json(row, by) for row in rows]
        typer.echo(json.dumps({"since": days[0], "until": days[-1], "by": by.value, "rows": shown}))
    else:
        Console().print(_table(rows, by, f"{days[0]} to {days[-1]}", priced=bool(prices)))


def _as_json(row: Row, by: By) -> dict[str, Any]:
    """What is unknown is null, never 0."""
    totals = asdict(row.totals)
    if row.unknown:
        totals |= {"input": None, "output": None}
    dollars = None if row.unknown else row.dollars
    return {by.value: row.name, **totals, "dollars": dollars, "estimated_dollars": row.estimated_dollars}


def _days_of(since: str) -> int:
    """Days back from today, today included."""
    if found := re.fullmatch(r"(\d{1,3})([dw])", since):
        return max(1, int(found[1]) * UNITS[found[2]])
    try:
        first = date.fromisoformat(since)
    except ValueError as error:
        raise ConfigurationError(f"--since {since!r} is neither days back (7d) nor a day (2026-11-01)") from error
    return max(1, (date.fromisoformat(ledger.today()) - first).days + 1)


def _grouped(found: dict[Account, Totals], by: By, prices: Mapping[str, Price]) -> list[Row]:
    """Rows, those with the most tokens first."""
    groups: dict[str, dict[Account, Totals]] = {}
    for account, totals in found.items():
        groups.setdefault(getattr(account, by.value) or NO_KEY, {})[account] = totals
    rows = [
        Row(name, _sum(group.values()), cost_of(group, prices), estimated_cost_of(group, prices))
        for name, group in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row.totals.input - row.totals.output, row.name))


def _sum(parts: Iterable[Totals]) -> Totals:
    total = Totals()
    for part in parts:
        total.add(part)
    return total


def _table(rows: list[Row], by: By, title: str, *, priced: bool) -> Table:
    table = Table(title=f"Tokens, {title}", show_footer=len(rows) > 1)
    total = _sum(row.totals for row in rows)
    table.add_column(by.value, footer="all")
    for bucket in SHOWN:
        wide = len("unknown") if bucket in ("input", "output") else None
        table.add_column(
            bucket.replace("_", " "), justify="right", min_width=wide, footer=f"{getattr(total, bucket):,}"
        )
    if priced:
        known = [row.dollars for row in rows if row.dollars is not None]
        estimated = [row.estimated_dollars for row in rows if row.estimated_dollars is not None]
        complete = len(known) == len(estimated) == len(rows)
        footer = _dollars(sum(known) if complete else None, sum(estimated))
        table.add_column("dollars", justify="right", footer=footer)
    for row in rows:
        cells = [_cell(row, bucket) for bucket in SHOWN]
        table.add_row(row.name, *cells, *([_row_dollars(row)] if priced else []))
    return table


def _cell(row: Row, bucket: str) -> str:
    counted, estimated = getattr(row.totals, bucket), getattr(row.totals, f"estimated_{bucket}", 0)
    if row.unknown and bucket in ("input", "output"):
        return "unknown"
    return f"{counted:,}" + (f" + ~{estimated:,}" if estimated else "")


def _row_dollars(row: Row) -> str:
    if row.unknown and row.estimated_dollars is not None:
        return f"~{row.estimated_dollars:,.4f}"
    return _dollars(row.dollars, row.estimated_dollars)


def _dollars(amount: float | None, estimated: float | None = 0.0) -> str:
    if amount is None or estimated is None:
        return "no price"
    return f"{amount:,.4f}" + (f" + ~{estimated:,.4f}" if estimated else "")
