"""A request whose job is lost, or that no worker takes, ends with one typed failure on every way of reading it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from contract.gateway_rig import QUESTION, Rig, Served, Writer
from harness.redis_server import RedisServer
from harness.waiting import until
from railstream import dead_letters, events, job, keys, worker_records
from railstream.conversations import Entry, RedisSessions
from railstream.errors import JobLostError
from railstream.ids import new_request_id
from railstream.topology.connect import connect
from railstream.worker_records import WorkerRecord
from railstream_gateway.stream import lost_jobs, relay
from railstream_gateway.stream.lost_jobs import JobWatch
from railstream_worker.queue.group import ensure_group
from redis.asyncio import Redis

CONTINUE = {"x-railstream-on-disconnect": "continue"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "PATIENCE", 0.1)


async def _delete(redis: Redis) -> None:
    await redis.delete(keys.jobs())


async def _trim(redis: Redis) -> None:
    await redis.xtrim(keys.jobs(), maxlen=0, approximate=False)


LOSSES: dict[str, Callable[[Redis], Awaitable[None]]] = {"DEL": _delete, "XTRIM": _trim}


@pytest.mark.parametrize("loss", LOSSES)
async def test_streams_whose_jobs_are_lost_in_the_queue_end_with_job_lost(rig: Rig, loss: str) -> None:
    first, second = await rig.serve(), await rig.serve()
    async with first.ask() as stream:
        writer = await rig.next_job()
        async with second.resume(writer.id) as other:
            await LOSSES[loss](rig.redis)
            frames, again = await stream.read(), await other.read()
    assert frames == again
    assert [frame.done for frame in frames] == [False, True]
    assert frames[0].json["error"]["code"] == "job_lost"
    entries: Any = await rig.redis.xrange(keys.events(writer.id))
    assert [fields[b"event"] for _, fields in entries] == [b"failed"]
    assert await writer.status() == "failed"
    assert 0 < await rig.redis.ttl(keys.events(writer.id)) <= 3600


async def test_a_plain_request_whose_job_is_lost_is_503_and_may_be_repeated(rig: Rig) -> None:
    served = await rig.serve()
    asking = asyncio.create_task(rig.http.post(served.completions, json=QUESTION))
    await rig.next_job()
    await _delete(rig.redis)
    answer = await asking
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "job_lost")
    assert answer.headers["retry-after"]


async def test_a_get_of_a_request_whose_job_is_lost_says_so(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask(headers=CONTINUE):
        writer = await rig.next_job()
    await _trim(rig.redis)
    answer = await rig.http.get(f"{served.completions}/{writer.id}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "job_lost")


async def test_a_group_that_is_gone_is_made_again_and_the_job_is_kept(rig: Rig) -> None:
    served = await rig.serve()
    await ensure_group(rig.redis, keys.jobs())  # a gateway may have made it already
    async with served.ask() as stream:
        writer = await rig.next_job()
        await rig.redis.xgroup_destroy(keys.jobs(), keys.GROUP)

        async def made() -> bool:
            return bool(await rig.redis.xinfo_groups(keys.jobs()))

        await until(made)
        taken: Any = await rig.redis.xreadgroup(keys.GROUP, "w", {keys.jobs(): ">"}, count=1)
        assert taken[0][1][0][0] == writer.entry
        await (await (await writer.start()).say("a")).finish()
        await stream.read()
    assert stream.text == "a"


async def _run(rig: Rig, served: Served, stream: Any, owner: str) -> Writer:
    """As a worker takes a job: pending for it, its own in the hash, its first text out."""
    await ensure_group(rig.redis, keys.jobs())  # a gateway may have made it already
    writer = await rig.next_job()
    await rig.redis.xreadgroup(keys.GROUP, owner, {keys.jobs(): ">"}, count=1)
    own = {"job": writer.entry, "owner": owner, "attempt": 1}
    await rig.redis.hset(keys.request(writer.id), mapping=own)
    await (await writer.start()).say("a")
    await stream.read(frames=2)
    return writer


async def test_a_running_stream_whose_owner_lives_is_not_ended_when_the_queue_is_lost(rig: Rig) -> None:
    served = await rig.serve()
    await worker_records.write(rig.redis, WorkerRecord("w", version=1))
    async with served.ask() as stream:
        writer = await _run(rig, served, stream, "w")
        await _delete(rig.redis)
        assert not await served.gateway.jobs.check(writer.id)
        await (await writer.say("b")).finish()
        await stream.read()
    assert stream.text == "ab"
    assert stream.done


async def test_a_lost_job_that_its_living_owner_does_not_run_ends_at_once(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await _run(rig, served, stream, "w")
        entry = await rig.redis.hget(keys.request(writer.id), "job")
        await worker_records.write(rig.redis, WorkerRecord("w", version=1), [entry])
        await _delete(rig.redis)
        assert not await served.gateway.jobs.check(writer.id)
        await worker_records.write(rig.redis, WorkerRecord("w", version=1), [b"1-1"])
        frames = await stream.read()
    assert frames[-2].json["error"]["code"] == "job_lost"


async def test_a_job_that_its_living_owner_has_forgotten_ends_after_the_time_of_the_queue(rig: Rig) -> None:
    served = await rig.serve(queue_timeout=0.5)
    await worker_records.write(rig.redis, WorkerRecord("w", version=1))
    async with served.ask() as stream:
        await _run(rig, served, stream, "w")
        await _delete(rig.redis)
        frames = await stream.read()
    assert frames[-2].json["error"]["code"] == "job_lost"


async def test_a_running_stream_whose_owner_is_dead_and_whose_job_is_gone_ends_above_its_attempt(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await _run(rig, served, stream, "w")
        await _delete(rig.redis)
        frames = await stream.read()
    assert stream.text == "a"
    assert [frame.event for frame in frames] == [None] * len(frames)
    assert frames[-2].json["error"]["code"] == "job_lost"
    entries: Any = await rig.redis.xrange(keys.events(writer.id))
    assert [(id, fields[b"event"]) for id, fields in entries[-2:]] == [(b"2-0", b"restarted"), (b"2-1", b"failed")]


async def test_a_job_that_a_dead_worker_holds_is_left_to_the_next_one(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await _run(rig, served, stream, "w")
        assert not await served.gateway.jobs.check(writer.id)
        assert await writer.status() == "running"


async def test_an_end_that_comes_while_the_queue_is_looked_at_stays_the_only_one(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await _run(rig, served, stream, "w")
        await writer.finish()
        await stream.read()
    await _delete(rig.redis)
    seen = ("running", writer.entry.decode(), "", "1")
    assert not await served.gateway.jobs._end(writer.id, JobLostError("lost"), seen)
    assert await writer.status() == "finished"


async def test_a_job_that_no_worker_takes_ends_with_queue_timeout(rig: Rig) -> None:
    served = await rig.serve(queue_timeout=0.3)
    async with served.ask() as stream:
        work = (await rig.next_job()).job
        frames = await stream.read()
    assert work.deadline == pytest.approx(work.created + 0.3)
    assert frames[0].json["error"]["code"] == "queue_timeout"
    assert frames[1].done
    plain = await rig.http.post(served.completions, json=QUESTION)
    assert (plain.status_code, plain.json()["error"]["code"]) == (503, "queue_timeout")


async def test_a_failure_that_a_worker_wrote_as_an_attempt_of_its_own_is_no_gap(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a")
        await stream.read(frames=2)
        writer.attempt, writer.seq = 2, 0
        await writer.end(events.Failed({"message": "dead", "code": "deliveries_exhausted"}))
        frames = await stream.read()
    assert frames[-2].json["error"]["code"] == "deliveries_exhausted"


async def test_a_key_whose_request_was_never_run_gives_way_to_a_new_request(rig: Rig) -> None:
    served = await rig.serve()
    headers = {"idempotency-key": "k"}
    async with served.ask(headers=headers) as stream:
        lost = await rig.next_job()
        await _trim(rig.redis)
        await stream.read()
    async with served.ask(headers=headers) as stream:
        again = await (await rig.next_job()).start()
        await (await again.say("b")).finish()
        await stream.read()
    assert again.id != lost.id
    assert stream.text == "b"


# dead letters


async def _dead(rig: Rig, writer: Writer) -> dead_letters.DeadLetter:
    """The job failed its last delivery, as a worker says it."""
    await writer.end(events.Failed({"message": "dead", "code": "deliveries_exhausted"}))
    await rig.redis.xdel(keys.jobs(), writer.entry)
    body = job.encode(writer.job)
    await dead_letters.bury(rig.redis, job=body, request_id=writer.id, pool="", deliveries=3, reason="dead")
    (letter,) = await dead_letters.dead_letters(rig.redis)
    return letter


@pytest.mark.parametrize("begun", [False, True])
async def test_a_dead_job_runs_again_under_its_id_and_its_reader_goes_on(rig: Rig, begun: bool) -> None:
    served = await rig.serve()
    headers = {"idempotency-key": "k"} | CONTINUE
    async with served.ask(headers=headers) as stream:
        writer = await rig.next_job()
        if begun:
            await (await writer.start()).say("a")
        letter = await _dead(rig, writer)
        await stream.read()
    assert await dead_letters.retry(rig.redis, letter) == "reopened"
    assert await dead_letters.dead_letters(rig.redis) == []
    async with served.resume(writer.id, stream.last_event_id) as reader, served.ask(headers=headers) as repeat:
        again = await rig.next_job()
        assert again.id == writer.id
        if begun:
            again.attempt = 1
            await again.take_over(after="1-1")
        else:
            await again.start()
        await (await again.say("b")).finish()
        await reader.read()
        await repeat.read()
    assert (reader.text, reader.done) == ("b", True)
    assert repeat.text == ("ab" if begun else "b")
    assert b"gap" not in b"".join(frame.raw for frame in (*reader.frames, *repeat.frames))
    answer = await rig.http.get(f"{served.completions}/{writer.id}")
    assert answer.json()["choices"][0]["message"]["content"] == repeat.text


async def test_a_dead_flow_that_is_retried_is_a_flow(rig: Rig) -> None:
    served = await rig.serve()
    body = {"operations": [{"id": "one", "instruction": "hi"}]}
    asking = asyncio.create_task(rig.http.post(f"{served.api}/flows", json=body))
    writer = await (await rig.next_job()).start()
    letter = await _dead(rig, writer)
    await asking
    assert await dead_letters.retry(rig.redis, letter) == "reopened"
    assert (await rig.http.get(f"{served.api}/flows/{writer.id}")).status_code == 202


async def test_a_dead_job_of_a_thread_that_is_retried_answers_on_its_thread(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask(headers=CONTINUE, thread_id="a-thread-of-many-letters") as stream:
        writer = await (await rig.next_job()).start()
        letter = await _dead(rig, writer)
        await stream.read()
    assert await dead_letters.retry(rig.redis, letter) == "reopened"
    busy = QUESTION | {"thread_id": "a-thread-of-many-letters"}
    assert (await rig.http.post(served.completions, json=busy)).json()["error"]["code"] == "branch_busy"
    again = (await rig.next_job()).job
    sessions = RedisSessions(rig.redis)
    answer = Entry({"role": "assistant", "content": "b"}, time.time(), again.id)
    assert await sessions.end_turn(again.session, again.branch, again.id, 2, answer)
    said = [entry.message["content"] for entry in await sessions.messages(again.session, "", again.branch)]
    assert said == [QUESTION["messages"][0]["content"], "b"]  # type: ignore[index]


async def test_a_letter_whose_request_has_another_end_or_has_expired_says_so(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask(headers=CONTINUE) as stream:
        writer = await (await rig.next_job()).start()
        letter = await _dead(rig, writer)
        await stream.read()
    await rig.redis.hset(keys.request(writer.id), "status", "finished")
    assert await dead_letters.retry(rig.redis, letter) == "finished"
    assert await rig.queued() == 0
    await rig.redis.delete(keys.request(writer.id), keys.events(writer.id))
    assert await dead_letters.is_expired(rig.redis, letter)
    assert await dead_letters.retry(rig.redis, letter) == "expired"
    assert (await rig.next_job()).id == writer.id


async def test_letters_are_kept_for_a_time_and_not_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    old = f"{int((time.time() - dead_letters.KEPT - 60) * 1000)}-0"
    await rig.redis.xadd(keys.DEAD, {"job": b"x", "request": "", "reason": "r", "deliveries": 1, "at": "1"}, id=old)
    await dead_letters.bury(rig.redis, job=b"y", request_id="", pool="", deliveries=1, reason="no job")
    (letter,) = await dead_letters.dead_letters(rig.redis)
    assert (letter.job, letter.code) == (b"y", "not_a_job")
    assert 0 < await rig.redis.ttl(keys.DEAD) <= dead_letters.KEPT


async def test_a_claim_that_redis_did_not_let_a_worker_renew_ends_no_request(
    start_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_redis()
    redis = connect(server.url, 5, name="test")
    watch = JobWatch(redis, queue_timeout=300, retention=60)
    request = new_request_id()
    await redis.xgroup_create(keys.jobs(), keys.GROUP, mkstream=True)
    entry = await redis.xadd(keys.jobs(), {"__data__": b"x"})
    await redis.xreadgroup(keys.GROUP, "worker", {keys.jobs(): ">"})
    record = {
        "status": "running",
        "pool": "",
        "job": entry,
        "enqueued": entry,
        "owner": "worker",
        "created": time.time(),
    }
    await redis.hset(keys.request(request), mapping=record)
    arguments: Any = (keys.jobs(), keys.GROUP, "worker", 0, [entry])
    await redis.xclaim(*arguments, idle=400_000, justid=True)
    await redis.config_set("min-replicas-to-write", "1")
    assert not await watch.check(request)
    await redis.config_set("min-replicas-to-write", "0")
    assert not await watch.check(request), "its worker has had no time to renew the claim"
    monkeypatch.setattr(lost_jobs, "SEEN_WITHIN", 0)
    assert await watch.check(request), "nobody has renewed it since"
    await redis.aclose()
