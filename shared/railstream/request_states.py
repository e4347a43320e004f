"""What an operator sees of a request without its client's key: state, times, owner, pool. Never its content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from railstream import keys
from railstream.requests import ENDED

PAGE: Final = 200
"""Requests that are read in one round trip."""


@dataclass(frozen=True, slots=True)
class RequestState:
    """Times in unix seconds by the clock of whoever wrote them; ``None`` where it has not come to that."""

    id: str
    status: str
    kind: str = "chat"
    pool: str = ""
    model: str = ""
    configs: tuple[str, ...] = ()
    tenant: str = ""
    """Digest of the API key that sent it; empty when no keys are configured."""
    created: float | None = None
    started: float | None = None
    ended: float | None = None
    owner: str = ""
    """The worker of the latest attempt."""
    attempt: int = 0
    entry: str = ""
    """Of its job in the job stream."""
    error: str = ""
    """Code of an end that a gateway wrote."""
    cancel: str = ""
    """Why somebody has asked for a cancel."""
    on_disconnect: str = ""
    readers: int = 0
    traceparent: str = ""

    @property
    def is_over(self) -> bool:
        return self.status in ENDED


def decode(request_id: str, fields: Mapping[bytes, bytes]) -> RequestState | None:
    """``None`` when there is no such request, or no longer."""
    if b"status" not in fields:
        return None

    def text(name: str) -> str:
        return fields.get(name.encode(), b"").decode(errors="replace")

    def number(name: str) -> float | None:
        return float(text(name)) if text(name) else None

    return RequestState(
        id=request_id,
        status=text("status"),
        kind=text("kind") or "chat",
        pool=text("pool"),
        model=text("model"),
        configs=tuple(msgspec.json.decode(fields.get(b"configs", b"[]"), type=list[str])),
        tenant=text("tenant"),
        created=number("created"),
        started=number("started"),
        ended=number("ended"),
        owner=text("owner"),
        attempt=int(text("attempt") or 0),
        entry=text("job") or text("enqueued"),
        error=text("error"),
        cancel=text("cancel"),
        on_disconnect=text("on_disconnect"),
        readers=int(text("readers") or 0),
        traceparent=text("traceparent"),
    )


async def read(redis: Redis, ids: Sequence[str]) -> list[RequestState]:
    """The states of those requests that Redis still knows, in their order."""
    found: list[RequestState] = []
    for first in range(0, len(ids), PAGE):
        page = ids[first : first + PAGE]
        pipeline = redis.pipeline(transaction=False)
        for request_id in page:
            pipeline.hgetall(keys.request(request_id))
        found += _known(zip(page, await pipeline.execute(), strict=True))
    return found


def _known(answers: Iterable[tuple[str, Mapping[Any, Any]]]) -> list[RequestState]:
    states = (decode(request_id, fields) for request_id, fields in answers)
    return [state for state in states if state is not None]


async def kept(redis: Redis) -> list[str]:
    """The ids of all requests that Redis still knows, the newest first. It walks over every key."""
    pattern = keys.request("chatcmpl-*??").replace("{??}", "{*}")
    found = [key.decode() async for key in redis.scan_iter(match=pattern, count=1000)]
    names = (key.partition(":request:")[2] for key in found)
    return sorted((name for name in names if ":" not in name), reverse=True)
