"""`railstream cancel ID …`: stop requests of any client, queued or running."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import typer
from redis.asyncio import Redis

from railstream import cancelling, request_states
from railstream.cli.common_options import AsJson, RedisUrl
from railstream.cli.redis_session import ask_redis
from railstream.cli.request_ids import not_found, one_id
from railstream.local.announced import with_local_redis
from railstream.requests import ENDED
from railstream.settings import Settings, load

MISSING = 1
"""Exit code when one of the requests is not known."""
OUTCOMES = {
    "cancelled": "cancelled",
    "cancelling": "its worker is told to stop",
    "asked_before": "its cancel was asked for before",
    "ended_before": "it had ended already: {status}",
}


def cancel(
    request_ids: Annotated[list[str], typer.Argument(help="Ids of completions.", metavar="ID…")],
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Cancel requests of any client, queued or running. Their readers see the cancel; what ran is billed.

    One that has ended stays as it is. Exits with 1 when Redis does not know one of them.

    \b
    Examples:
      railstream cancel chatcmpl-…
    """
    ids = [one_id(value) for value in request_ids]
    settings = with_local_redis(load(Settings, redis_url=redis_url))
    outcomes = ask_redis(settings, "cancel", lambda redis: _cancel_all(redis, ids, settings.retention))
    if as_json:
        typer.echo(json.dumps([{"id": one.id, "outcome": one.outcome, "status": one.status} for one in outcomes]))
    for one in outcomes:
        if one.outcome == "not_found":
            typer.echo(f"railstream: {not_found(one.id)}", err=True)
        elif not as_json:
            typer.echo(f"{one.id}: {OUTCOMES[one.outcome].format(status=one.status)}")
    if any(one.outcome == "not_found" for one in outcomes):
        raise typer.Exit(MISSING)


class Outcome(NamedTuple):
    """``outcome``: ``not_found``, or one of `OUTCOMES`; ``status`` of the request afterwards."""

    id: str
    outcome: str
    status: str = ""


async def _cancel_all(redis: Redis, ids: Sequence[str], retention: float) -> list[Outcome]:
    return [await _cancel(redis, request_id, retention) for request_id in ids]


async def _cancel(redis: Redis, request_id: str, retention: float) -> Outcome:
    known = await request_states.read(redis, [request_id])
    if not known:
        return Outcome(request_id, "not_found")
    if known[0].is_over:
        return Outcome(request_id, "ended_before", known[0].status)
    first = await cancelling.cancel(redis, request_id, reason="request", retention=retention)
    now = await request_states.read(redis, [request_id])
    status = now[0].status if now else "expired"
    if status in ENDED and status != "cancelled":
        return Outcome(request_id, "ended_before", status)
    if not first:
        return Outcome(request_id, "asked_before", status)
    return Outcome(request_id, "cancelled" if status == "cancelled" else "cancelling", status)
