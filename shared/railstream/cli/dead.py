"""`railstream dead`: look at the jobs that failed their last delivery, queue them again, or drop them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from railstream import job as jobs
from railstream.connect import connect
from railstream.dead_letters import DeadLetter, dead_letters, drop, retry
from railstream.errors import ConfigurationError, InvalidRequestError
from railstream.settings import Settings, load, redact_url

ALL = "all"


class Action(StrEnum):
    """What to do with dead jobs."""

    list = "list"
    show = "show"
    retry = "retry"
    drop = "drop"


def dead(
    action: Annotated[Action, typer.Argument(help="list, show, retry or drop.", metavar="ACTION")] = Action.list,
    letter_id: Annotated[str, typer.Argument(help="An id of the list, or all.", metavar="ID")] = "",
    redis_url: Annotated[str | None, typer.Option(help="[RAILSTREAM_REDIS_URL]", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at the jobs that failed their last delivery; queue them again, or drop them.

    \b
    Examples:
      railstream dead                        all of them, with the reason
      railstream dead show 1700000000000-0   one of them, with its job
      railstream dead retry all
    """
    run(load(Settings, redis_url=redis_url), action.value, letter_id, as_json=as_json)


def run(settings: Settings, action: str, letter_id: str = "", *, as_json: bool = False) -> None:
    """``action``: ``list``, ``show``, ``retry`` or ``drop``; the last two take an id, or ``all``.

    Raises:
        InvalidRequestError: there is no dead letter of that id.
    """
    actions: dict[str, Callable[[Redis, str, bool], Awaitable[None]]] = {
        "list": _list,
        "show": _show,
        "retry": _retry,
        "drop": _drop,
    }
    if action not in actions:
        raise InvalidRequestError(f"{action!r} is no action: list, show, retry or drop")
    asyncio.run(_with_redis(settings, actions[action], letter_id, as_json))


async def _with_redis(
    settings: Settings, action: Callable[[Redis, str, bool], Awaitable[None]], letter_id: str, as_json: bool
) -> None:
    redis = connect(settings.redis_url, settings.redis_timeout, name="railstream-dead")
    try:
        await action(redis, letter_id, as_json)
    except (RedisError, OSError, TimeoutError) as error:
        raise ConfigurationError(f"Redis at {redact_url(settings.redis_url)!r} does not answer: {error}") from error
    finally:
        await redis.aclose()


async def _list(redis: Redis, _: str, as_json: bool) -> None:
    letters = await dead_letters(redis)
    if as_json:
        print(json.dumps([_shown(letter) for letter in letters]))
        return
    table = Table("id", "request", "deliveries", "when", "reason", title=f"{len(letters)} dead jobs")
    for letter in letters:
        when = datetime.fromtimestamp(letter.at, UTC).isoformat(timespec="seconds")
        table.add_row(letter.id, letter.request_id, str(letter.deliveries), when, letter.reason)
    Console().print(table)


async def _show(redis: Redis, letter_id: str, as_json: bool) -> None:
    for letter in await _named(redis, letter_id):
        shown = {**_shown(letter), "job": _job(letter)}
        print(json.dumps(shown, ensure_ascii=False, indent=None if as_json else 2))


async def _retry(redis: Redis, letter_id: str, _: bool) -> None:
    for letter in await _named(redis, letter_id):
        print(f"{letter.id}: queued again as {await retry(redis, letter)}")


async def _drop(redis: Redis, letter_id: str, _: bool) -> None:
    for letter in await _named(redis, letter_id):
        await drop(redis, letter)
        print(f"{letter.id}: dropped")


async def _named(redis: Redis, letter_id: str) -> list[DeadLetter]:
    if letter_id == ALL:
        return await dead_letters(redis)
    letters = await dead_letters(redis, letter_id) if letter_id else []
    if not letters:
        raise InvalidRequestError(f"there is no dead letter {letter_id!r}; `railstream dead list` shows them")
    return letters


def _shown(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "request": letter.request_id,
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
