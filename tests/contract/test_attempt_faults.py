"""An error raised at any await of an attempt: the request ends once, and branch, slot and claim are free."""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.stack import write_configs
from harness.waiting import until
from railstream import events, keys
from railstream import job as jobs
from railstream.config import ConfigSet
from railstream.conversations import MAIN, RedisSessions
from railstream.ids import new_request_id
from railstream.job import Job
from railstream.settings import WorkerSettings
from railstream.testing import Upstream, directive
from railstream_worker.app import create_worker
from railstream_worker.attempts.attempt import Attempt, Stop
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

MOST_AWAITS = 40
"""More than a short answer on a branch has; an attempt that has fewer runs unharmed."""
LEASE = 1.5
CONNECTING = {"create_connection", "connect", "_connect"}
Harm = Callable[[Attempt], BaseException | None]


def raising(error: type[Exception]) -> Harm:
    return lambda attempt: error("raised by the test")


def stopping(why: Stop) -> Harm:
    def stop(attempt: Attempt) -> None:
        attempt.stop(why, "request")

    return stop


HARMS: dict[str, Harm] = {
    "a bug": raising(ValueError),
    "a broken connection": raising(RedisConnectionError),
    "a redis without memory": raising(OutOfMemoryError),
    "a wrong type in redis": raising(ResponseError),
    "any error of redis": raising(RedisError),
    "a drain": stopping(Stop.DRAIN),
    "a cancel": stopping(Stop.CANCEL),
    "a lost claim": stopping(Stop.LOST),
}


class Harmed:
    """A coroutine that meets the harm at its ``at``-th await."""

    def __init__(self, run: Coroutine[Any, Any, None], attempt: Attempt, at: int, harm: Harm) -> None:
        self._run = run
        self._attempt = attempt
        self._at = at
        self._harm = harm
        self.met = False

    def __await__(self) -> Generator[Any, Any, None]:
        count, error = 0, None
        while True:
            try:
                if error is not None:
                    awaited, error = self._run.throw(error), None
                else:
                    awaited = self._run.send(None)
            except StopIteration:
                return
            # In the middle of connecting a foreign error leaves a socket that nobody owns, and that another may get.
            count += not _awaits(self._run, CONNECTING)
            if count == self._at and not self.met:
                self.met = True
                error = self._harm(self._attempt)
                if error is not None:
                    continue
            try:
                yield awaited
            except BaseException as thrown:
                error = thrown


def _awaits(run: Any, names: set[str]) -> bool:
    """Whether the coroutine waits in a function of one of these names."""
    while run is not None:
        if getattr(run, "__name__", "") in names:
            return True
        if type(run).__name__ == "async_generator_asend":  # it does not tell its generator in any other way
            run = next(found for found in gc.get_referents(run) if inspect.isasyncgen(found))
            continue
        waits = (getattr(run, name, None) for name in ("cr_await", "gi_yieldfrom", "ag_await"))
        run = next((inner for inner in waits if inner is not None), None)
    return False


@asynccontextmanager
async def worker(redis_url: str, upstream: Upstream, directory: Path) -> AsyncGenerator[None, None]:
    configs = ConfigSet.load(write_configs(directory, upstream.url, {"main": {}}), default="main")
    settings = WorkerSettings(redis_url=redis_url, drain_timeout=2, lease=LEASE, scan=0.1, concurrency=MOST_AWAITS)
    app = create_worker(settings, configs=configs)
    running = asyncio.create_task(app.run())
    try:
        yield
    finally:
        app.exit()
        await running


@pytest.mark.parametrize("name", HARMS)
async def test_an_attempt_that_is_harmed_at_any_await_ends_once(
    name: str, redis: Redis, redis_url: str, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harmed: dict[str, list[Harmed]] = {}
    places: dict[str, int] = {}
    original = Attempt.run

    async def run(self: Attempt) -> None:
        """The first attempt of each request meets the harm, at a place of its own."""
        attempts = harmed.setdefault(self.job.id, [])
        self._task = asyncio.current_task()
        attempts.append(Harmed(original(self), self, 0 if attempts else places[self.job.id], HARMS[name]))
        await attempts[-1]

    monkeypatch.setattr(Attempt, "run", run)
    sessions = RedisSessions(redis)
    asked = [await ask(redis, sessions, places, at) for at in range(1, MOST_AWAITS + 1)]
    async with worker(redis_url, upstream, tmp_path):
        for job in asked:
            await until(lambda: has_ended(redis, job), timeout=20, what=f"{name} at await {places[job.id]}")  # noqa: B023
        await until(lambda: nothing_pends(redis), what="no claim is left")
        late = [await ask(redis, sessions, places, 0) for _ in range(MOST_AWAITS)]
        for job in late:
            await until(lambda: has_ended(redis, job), what="every slot is free")  # noqa: B023
    for job in asked:
        log: Any = await redis.xrange(keys.events(job.id))
        names = [fields[b"event"] for _, fields in log]
        assert sum(name in events.TERMINAL for name in names) == 1, (places[job.id], names)
        assert names[-1] in events.TERMINAL
        assert len(harmed[job.id]) <= 3, places[job.id]
        status = await redis.hget(keys.request(job.id), "status")
        assert status == names[-1], "the branch is free once its writer has ended"
        again = await sessions.begin_turn(job.session, "", MAIN, new_request_id(), [], over=job.id)
        assert again == ""
    met = sum(attempts[0].met for attempts in harmed.values())
    assert met >= 5, "the harm was met at too few places"
    assert await redis.xlen(keys.DEAD) == 0


async def ask(redis: Redis, sessions: RedisSessions, places: dict[str, int], at: int) -> Job:
    request, session = new_request_id(), (await sessions.create("")).id
    messages = [{"role": "user", "content": directive(words=5)}]
    await sessions.begin_turn(session, "", MAIN, request, messages)
    job = Job(request, "testing", time.time(), ("main",), messages, session=session, branch=MAIN)
    places[job.id] = at
    await redis.hset(keys.request(job.id), mapping={"status": "queued", "tenant": ""})
    await redis.xadd(keys.jobs(), {"__data__": jobs.encode(job)})
    return job


async def has_ended(redis: Redis, job: Job) -> bool:
    last: Any = await redis.xrevrange(keys.events(job.id), count=1)
    return bool(last) and last[0][1][b"event"] in events.TERMINAL


async def nothing_pends(redis: Redis) -> bool:
    return int(await redis.xlen(keys.jobs())) == 0
