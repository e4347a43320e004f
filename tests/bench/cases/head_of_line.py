"""One slow client, one prompt of 4 MiB, one action that blocks its thread: do the other streams feel it?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from harness.sse import Stream, opened
from railstream.testing import directive

from bench.budget import unmoved
from bench.load import MODEL, Load, percentile
from bench.measuring import offer, warm_up
from bench.results import Row
from bench.settings import Bench
from bench.systems import WINDOW, System, railstream

BODY_LIMIT = 4 * 1024 * 1024
BEFORE = 2.0
"""Seconds of undisturbed load first: what the others' p99 is held against."""
AFTER = 2.0
"""Seconds from the start of the disturbance that are looked at."""
BLOCKING = {
    "rails": {"output": {"flows": ["slow check"], "streaming": WINDOW | {"chunk_size": 20, "context_size": 5}}},
    "actions.py": (
        "import time\n\nfrom railstream_engine.rails.judges.actions import action\n\n\n"
        "@action()\ndef slow_check(text):\n    time.sleep(0.5)\n    return True\n"
    ),
}

Disturb = Callable[[System], Awaitable[None]]


async def head_of_line(bench: Bench) -> None:
    extra = {"blocking": BLOCKING}
    load = Load(bench.settings.scaled(50, 5), int(25 * (BEFORE + AFTER + 1)), 25, ramp=1)
    async with railstream(bench.upstream, bench.room(), config="regex", extra=extra) as system:
        await warm_up(system, load.streams)
        for name, disturb in DISTURBANCES.items():
            before, during, most = await _around(system, load, disturb)
            note = f"{before:.1f} ms before; max {most:.0f} ms"
            row = Row("head_of_line", f"p99 of the others beside {name}", during, "ms", unmoved(before), note=note)
            bench.findings.add(row)
            bench.findings.details.setdefault("head_of_line", {})[name] = row.as_json()


async def _around(system: System, load: Load, disturb: Disturb) -> tuple[float, float, float]:
    """The others' p99 in milliseconds before and during, and the most during."""
    under_load = asyncio.create_task(offer(system, load))
    await asyncio.sleep(1 + BEFORE)  # the ramp, then the quiet part
    at = time.monotonic_ns()
    disturbing = asyncio.ensure_future(disturb(system))
    seen = await under_load
    disturbing.cancel()
    await asyncio.gather(disturbing, return_exceptions=True)
    if not disturbing.cancelled() and (error := disturbing.exception()):
        raise error
    quiet = seen.latencies(at - int(BEFORE * 1e9 / 2), at)
    during = seen.latencies(at, at + int(AFTER * 1e9))
    return percentile(quiet, 99), percentile(during, 99), percentile(during, 100)


@asynccontextmanager
async def _asked(
    system: System, content: str, *, buffer: int | None = None, config: str | None = None
) -> AsyncGenerator[Stream, None]:
    body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": True}
    if config is not None:
        body["guardrails"] = {"config_id": config}
    url = f"http://127.0.0.1:{system.target.ports[0]}{system.target.path}"
    async with opened(url, body=body, receive_buffer=buffer) as stream:
        if stream.status != 200:
            raise RuntimeError(f"the disturbance was refused: {stream.status} {(await stream.body())[:300]!r}")
        yield stream


async def _slow_client(system: System) -> None:
    """Asks for twenty times the others' speed, and reads nothing of it."""
    async with _asked(system, directive(words=5000, rate=500), buffer=4096):
        await asyncio.sleep(AFTER + 1)


async def _long_prompt(system: System) -> None:
    """As much as a body may hold."""
    filler = "word " * ((BODY_LIMIT - 4096) // 5)
    async with _asked(system, filler + directive(words=5)) as stream:
        await stream.read()


async def _sync_action(system: System) -> None:
    """Judged window by window by a function that sleeps in its thread."""
    async with _asked(system, directive(words=100, rate=100), config="blocking") as stream:
        await stream.read()


DISTURBANCES: dict[str, Disturb] = {
    "a client that does not read": _slow_client,
    "a prompt of 4 MiB": _long_prompt,
    "a sync action that sleeps": _sync_action,
}
