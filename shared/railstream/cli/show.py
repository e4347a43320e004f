"""`railstream show ID`: the life of one request, from Redis, without its client's key."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated, Any

import msgspec
import typer
from redis.asyncio import Redis

from railstream import job as jobs
from railstream import keys, request_history, request_states
from railstream.cli.columns import columns, duration
from railstream.cli.common_options import AsJson, RedisUrl
from railstream.cli.redis_session import ask_redis
from railstream.cli.request_ids import not_found, one_id
from railstream.dead_letters import DeadLetter, dead_letter_of
from railstream.local.announced import with_local_redis
from railstream.request_history import History
from railstream.request_states import RequestState
from railstream.settings import Settings, load

CALLS = ("call", "task", "model", "outcome", "input", "output", "seconds")


def show(
    request_id: Annotated[str, typer.Argument(help="The id of a completion, as x-request-id has it.", metavar="ID")],
    content: Annotated[
        bool, typer.Option("--content", help="Also the text of the answer, and what quotes it.")
    ] = False,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show one request: state, attempts, times, worker, pool, usage, how it ended, and its dead letter.

    Prompt and answer are left out without --content. Exits with 1 when Redis does not know the request.

    \b
    Examples:
      railstream show chatcmpl-…
      railstream show chatcmpl-… --json
    """
    name = one_id(request_id)
    settings = with_local_redis(load(Settings, redis_url=redis_url))
    shown = ask_redis(settings, "show", lambda redis: _read(redis, name, content=content))
    typer.echo(json.dumps(shown, ensure_ascii=False) if as_json else _text(shown))


async def _read(redis: Redis, request_id: str, *, content: bool) -> dict[str, Any]:
    """Raises ``RequestNotFoundError`` when nothing of it is left."""
    states = await request_states.read(redis, [request_id])
    history = await request_history.read(redis, request_id, content=content)
    letter = await dead_letter_of(redis, request_id)
    if not states and not history.first and letter is None:
        raise not_found(request_id)
    kept_for = await redis.pttl(keys.request(request_id))
    state = states[0] if states else RequestState(request_id, "expired")
    return {
        **asdict(state),
        "kept_for": kept_for / 1000 if kept_for > 0 else None,
        **_of_history(history, content),
        "dead_letter": None if letter is None else _of_letter(letter, content),
    }


def _of_history(history: History, content: bool) -> dict[str, Any]:
    known = {
        "attempts": history.attempts,
        "events": {"first": history.first, "last": history.last, "chunks": history.chunks},
        "characters": history.characters,
        "operations": history.operations,
        "calls": history.calls,
        "end": history.end,
    }
    return known | ({"texts": history.texts} if content else {})


def _of_letter(letter: DeadLetter, content: bool) -> dict[str, Any]:
    known = {name: getattr(letter, name) for name in ("id", "code", "reason", "deliveries", "at")}
    if not content:
        return known
    try:
        return known | {"messages": msgspec.to_builtins(jobs.decode(letter.job).messages)}
    except ValueError as error:
        return known | {"messages": None, "problem": str(error)}


def _text(shown: dict[str, Any]) -> str:
    parts = [_facts(shown)]
    parts += [f"attempt {one['attempt']}: {one['reason']}, at {one['at']}" for one in shown["attempts"]]
    parts += [json.dumps(one, ensure_ascii=False) for one in shown["operations"]]
    if shown["calls"]:
        parts.append(columns(CALLS, [_call(one) for one in shown["calls"]]))
    if shown["end"]:
        parts.append(f"end: {json.dumps(shown['end'], ensure_ascii=False)}")
    if shown["dead_letter"]:
        parts.append(f"dead letter: {json.dumps(shown['dead_letter'], ensure_ascii=False)}")
    parts += [f"choice {index}:\n{text}" for index, text in shown.get("texts", {}).items()]
    return "\n\n".join(parts)


def _facts(shown: dict[str, Any]) -> str:
    end = shown["ended"] or time.time()
    facts = {
        "id": shown["id"],
        "status": shown["status"],
        "kind": shown["kind"],
        "model": shown["model"],
        "config": "+".join(shown["configs"]),
        "pool": shown["pool"] or "(default)",
        "key": shown["tenant"] or "(no key)",
        "worker": shown["owner"],
        "attempt": str(shown["attempt"] or ""),
        "created": _when(shown["created"]),
        "waited": _between(shown["created"], shown["started"] or end),
        "ran": _between(shown["started"], end),
        "readers": str(shown["readers"]),
        "cancel": shown["cancel"],
        "released": f"{shown['events']['chunks']} chunks, {shown['characters']} characters",
        "kept for": duration(shown["kept_for"]),
        "trace": shown["traceparent"],
    }
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in facts.items() if value)


def _between(start: float | None, end: float) -> str:
    return "" if start is None else duration(end - start)


def _when(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _call(call: dict[str, Any]) -> list[str]:
    return [
        str(call["call"]),
        call["task"],
        call["model"],
        call.get("outcome", "finished"),
        _tokens(call, "input"),
        _tokens(call, "output"),
        f"{call.get('seconds', 0):.2f}",
    ]


def _tokens(call: dict[str, Any], side: str) -> str:
    """A count of the provider, or our estimate behind a ``~``."""
    counted, estimated = call.get(f"{side}_tokens"), call.get(f"estimated_{side}_tokens")
    if counted is not None:
        return str(counted)
    return "unknown" if estimated is None else f"~{estimated}"
