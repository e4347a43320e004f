"""`railstream dead` over a real Redis: which letters an action takes, and what it says of each."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from railstream import job as jobs
from railstream import keys, requests
from railstream.cli.dead import Choice, run
from railstream.dead_letters import bury, dead_letters
from railstream.errors import InvalidRequestError
from railstream.ids import new_request_id
from railstream.job import Job
from railstream.settings import Settings
from redis.asyncio import Redis


async def buried(redis: Redis, *, pool: str = "", code: str = "", known: bool = True) -> Job:
    job = Job(id=new_request_id(), model="m", created=time.time(), configs=("main",), messages=[])
    if known:
        fields = requests.encode(job, pool=pool, policy="cancel") | {"status": "failed", requests.MARK: "1-1"}
        await redis.hset(keys.request(job.id), mapping=fields)
    await bury(redis, job=jobs.encode(job), request_id=job.id, pool=pool, deliveries=3, reason="r", code=code)
    return job


async def told(redis_url: str, capsys: pytest.CaptureFixture[str], action: str, **chosen: Any) -> Any:
    await asyncio.to_thread(run, Settings(redis_url=redis_url), action, Choice(as_json=True, **chosen))
    return json.loads(capsys.readouterr().out)


async def test_filters_choose_letters_by_code_pool_and_age(
    redis: Redis, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = await buried(redis)
    second = await buried(redis, pool="gpu", code="job_version")

    async def chosen(**given: Any) -> list[str]:
        return [letter["request"] for letter in await told(redis_url, capsys, "list", **given)]

    assert await chosen() == [first.id, second.id]
    assert await chosen(code="deliveries_exhausted") == [first.id]
    assert await chosen(pool="gpu") == [second.id]
    assert await chosen(pool="") == [first.id]
    assert await chosen(older_than=60) == []


async def test_all_that_can_run_are_retried_and_the_others_are_kept(
    redis: Redis, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known, expired = await buried(redis), await buried(redis, known=False)
    await bury(redis, job=b"no job", request_id="", pool="", deliveries=1, reason="r")
    shown = await told(redis_url, capsys, "list")
    assert [letter["expired"] for letter in shown] == [False, True, True]
    done = await told(redis_url, capsys, "retry", id="all")
    assert [letter["outcome"] for letter in done] == ["reopened", "expired", "kept"]
    assert [letter.job for letter in await dead_letters(redis)] == [b"no job"]
    queued: Any = await redis.xrange(keys.jobs())
    assert [jobs.decode(fields[b"__data__"]).id for _, fields in queued] == [known.id, expired.id]


async def test_a_letter_that_is_not_there_is_an_error_with_the_remedy(redis: Redis, redis_url: str) -> None:
    with pytest.raises(InvalidRequestError, match="railstream dead list"):
        await asyncio.to_thread(run, Settings(redis_url=redis_url), "drop", Choice("1-1"))
