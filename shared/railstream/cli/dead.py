"""`railstream dead`: look at the jobs that failed their last delivery, queue them again, or drop them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from railstream import job as jobs
from railstream.cli.common_options import AsJson, RedisUrl
from railstream.cli.redis_session import ask_redis
from railstream.dead_letters import DeadLetter, dead_letters, drop, is_expired, retry
from railstream.errors import InvalidRequestError, RailstreamError
from railstream.local.announced import with_local_redis
from railstream.settings import Settings, load

ALL = "all"
OUTCOMES = {
    "reopened": "{request} runs again; its readers see the answer",
    "expired": "{request} had expired and runs again under the same id; nobody waits for it",
    "kept": "kept; it cannot be run",
}
NOT_AGAIN = "dropped, and not run again: {request} is {status}"


class Action(StrEnum):
    """What to do with dead jobs."""

    list = "list"
    show = "show"
    retry = "retry"
    drop = "drop"


def dead(
    action: Annotated[Action, typer.Argument(help="list, show, retry or drop.", metavar="ACTION")] = Action.list,
    letter_id: Annotated[str, typer.Argument(help="An id of the list, or all.", metavar="ID")] = "",
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
    every: Annotated[bool, typer.Option("--all", help="Every letter that the filters let through.")] = False,
    code: Annotated[str, typer.Option(help="Only those whose request ended with this code.")] = "",
    pool: Annotated[str | None, typer.Option(help="Only those of this worker pool.", show_default=False)] = None,
    older_than: Annotated[float, typer.Option(metavar="SECONDS", help="Only those older than this.", min=0)] = 0,
) -> None:
    """Look at the jobs that failed their last delivery; queue them again, or drop them.

    \b
    Examples:
      railstream dead                        all of them, with the reason
      railstream dead show 1700000000000-0   one of them, with its job
      railstream dead retry --all            each runs again under its request's id
      railstream dead drop --all --code not_a_job --older-than 86400
    """
    chosen = Choice(ALL if every else letter_id, code=code, pool=pool, older_than=older_than, as_json=as_json)
    run(with_local_redis(load(Settings, redis_url=redis_url)), action.value, chosen)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters, and how they are shown. ``id`` is one letter's, or ``all``; ``older_than`` in seconds."""

    id: str = ""
    code: str = ""
    pool: str | None = None
    older_than: float = 0
    as_json: bool = False

    def takes(self, letter: DeadLetter) -> bool:
        if self.code and letter.code != self.code:
            return False
        if self.pool is not None and letter.pool != self.pool:
            return False
        return letter.at <= time.time() - self.older_than


def run(settings: Settings, action: str, chosen: Choice) -> None:
    """``action``: ``list``, ``show``, ``retry`` or ``drop``; all but the first take an id, or ``all``.

    Raises:
        InvalidRequestError: there is no dead letter of that id.
    """
    actions: dict[str, Callable[[Redis, Choice], Awaitable[None]]] = {
        "list": _list,
        "show": _show,
        "retry": _retry,
        "drop": _drop,
    }
    if action not in actions:
        raise InvalidRequestError(f"{action!r} is no action: list, show, retry or drop")
    act = actions[action]
    ask_redis(settings, "dead", lambda redis: act(redis, chosen))


async def _list(redis: Redis, chosen: Choice) -> None:
    letters = [letter for letter in await dead_letters(redis) if chosen.takes(letter)]
    expired = [await is_expired(redis, letter) for letter in letters]
    if chosen.as_json:
        return _print([_shown(letter, gone) for letter, gone in zip(letters, expired, strict=True)])
    columns = ("id", "request", "pool", "code", "deliveries", "when", "reason")
    table = Table(*columns, title=f"{len(letters)} dead jobs")
    for letter, gone in zip(letters, expired, strict=True):
        when = datetime.fromtimestamp(letter.at, UTC).isoformat(timespec="seconds")
        request = f"{letter.request_id} (expired)" if gone and letter.request_id else letter.request_id
        table.add_row(letter.id, request, letter.pool, letter.code, str(letter.deliveries), when, letter.reason)
    Console().print(table)


async def _show(redis: Redis, chosen: Choice) -> None:
    for letter in await _named(redis, chosen):
        shown = {**_shown(letter, await is_expired(redis, letter)), "job": _job(letter)}
        print(json.dumps(shown, ensure_ascii=False, indent=None if chosen.as_json else 2))


async def _retry(redis: Redis, chosen: Choice) -> None:
    done = [(letter, await _outcome(redis, letter)) for letter in await _named(redis, chosen)]
    if chosen.as_json:
        return _print([{"id": one.id, "request": one.request_id, "outcome": outcome} for one, outcome in done])
    for letter, outcome in done:
        print(f"{letter.id}: {OUTCOMES.get(outcome, NOT_AGAIN).format(request=letter.request_id, status=outcome)}")


async def _outcome(redis: Redis, letter: DeadLetter) -> str:
    """Of one of several: what cannot be run stays where it is, and the others are run."""
    try:
        return await retry(redis, letter)
    except RailstreamError as error:
        print(error, file=sys.stderr)
        return "kept"


async def _drop(redis: Redis, chosen: Choice) -> None:
    letters = await _named(redis, chosen)
    for letter in letters:
        await drop(redis, letter)
        if not chosen.as_json:
            print(f"{letter.id}: dropped")
    if chosen.as_json:
        _print([{"id": letter.id, "request": letter.request_id, "outcome": "dropped"} for letter in letters])


async def _named(redis: Redis, chosen: Choice) -> list[DeadLetter]:
    if chosen.id == ALL:
        return [letter for letter in await dead_letters(redis) if chosen.takes(letter)]
    letters = await dead_letters(redis, chosen.id) if chosen.id else []
    if not letters:
        raise InvalidRequestError(
            f"there is no dead letter {chosen.id!r}; `railstream dead list` shows them, --all takes every one"
        )
    return letters


def _print(shown: Any) -> None:
    print(json.dumps(shown, ensure_ascii=False))


def _shown(letter: DeadLetter, expired: bool) -> dict[str, Any]:
    return {
        "id": letter.id,
        "request": letter.request_id,
        "expired": expired,
        "code": letter.code,
        "deliveries": letter.deliveries,
        "at": letter.at,
        "pool": letter.pool,
        "reason": letter.reason,
    }


def _job(letter: DeadLetter) -> Any:
    try:
        return json.loads(jobs.encode(jobs.decode(letter.job)))
    except ValueError:
        return letter.job.decode(errors="replace")
