"""Who leaves, who cancels, who comes back: a generation runs as long as somebody wants it, and only once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from contract.gateway_rig import QUESTION, Cancels, Rig, Served, Writer, readers_are
from harness.sse import Stream, opened
from harness.waiting import until
from railstream import events, keys
from railstream_gateway.accept import presence

POLICY = "x-railstream-on-disconnect"


async def left(rig: Rig, served: Served, *, running: bool, **headers: str) -> Writer:
    """A client that asks and leaves."""
    async with served.ask(headers={name.replace("_", "-"): value for name, value in headers.items()}) as stream:
        writer = await rig.next_job()
        if running:
            await (await writer.start()).say("a")
            await stream.read(frames=1)
        stream.reset()
    await until(lambda: not len(served.gateway.open_streams))
    return writer


@pytest.mark.parametrize("running", [False, True])
async def test_a_client_that_leaves_cancels_its_request(rig: Rig, running: bool) -> None:
    served = await rig.serve()
    async with Cancels(rig.redis) as cancels:
        writer = await left(rig, served, running=running)
        assert await cancels.next() == writer.id
    assert await rig.redis.hget(keys.request(writer.id), "cancel") == b"disconnect"
    assert await writer.status() == ("running" if running else "cancelled")
    entries: Any = await rig.redis.xrange(keys.events(writer.id))
    assert entries[-1][1][b"event"] == (b"chunk" if running else b"cancelled")


async def test_a_client_that_leaves_before_its_answer_cancels_it_too(rig: Rig) -> None:
    served = await rig.serve()
    async with Cancels(rig.redis) as cancels:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        body = b'{"messages":[{"role":"user","content":"hi"}]}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
        writer.write(head + body)
        job = await rig.next_job()
        writer.close()
        assert await cancels.next() == job.id


async def test_a_client_that_asked_to_continue_leaves_it_running(rig: Rig) -> None:
    served = await rig.serve()
    writer = await left(rig, served, running=True, x_railstream_on_disconnect="continue")
    await until(lambda: readers_are(rig, writer, 0))
    assert await rig.redis.hget(keys.request(writer.id), "cancel") is None
    await (await writer.say("b")).finish()
    async with served.resume(writer.id) as stream:
        await stream.read()
    assert stream.text == "ab"


async def test_a_grace_cancels_unless_somebody_comes_back(rig: Rig) -> None:
    first, second = await rig.serve(), await rig.serve()
    async with Cancels(rig.redis) as cancels:
        writer = await left(rig, first, running=True, x_railstream_on_disconnect="grace=0.2")
        async with second.resume(writer.id, "1-0") as stream:
            assert await cancels.next(timeout=0.5) is None
            stream.reset()
        assert await cancels.next() == writer.id


async def test_only_the_last_reader_that_leaves_cancels(rig: Rig) -> None:
    first, second = await rig.serve(), await rig.serve()
    async with Cancels(rig.redis) as cancels, first.ask() as stream:
        writer = await (await rig.next_job()).start()
        async with second.resume(writer.id) as other:
            await until(lambda: readers_are(rig, writer, 2))
            stream.reset()
            await until(lambda: readers_are(rig, writer, 1))
            await (await writer.say("a")).finish()
            await other.read()
            assert other.text == "a"
        assert await cancels.next(timeout=0.1) is None


@pytest.mark.parametrize("policy", ["stop", "grace", "grace=", "grace=-1", "grace=nan", "grace=9999999", ""])
async def test_a_bad_policy_is_400(rig: Rig, policy: str) -> None:
    served = await rig.serve()
    answer = await rig.http.post(served.completions, json=QUESTION, headers={POLICY: policy})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "X-Railstream-On-Disconnect")
    assert await rig.queued() == 0


@pytest.mark.parametrize("running", [False, True])
async def test_a_cancel_works_from_any_gateway_and_twice(rig: Rig, running: bool) -> None:
    first, second = await rig.serve(), await rig.serve()
    async with Cancels(rig.redis) as cancels, first.ask() as stream:
        writer = await rig.next_job()
        if running:
            await writer.start()
        for _ in range(2):
            answer = await rig.http.post(f"{second.completions}/{writer.id}/cancel")
            assert answer.status_code == 200
            assert answer.json()["status"] == ("cancelling" if running else "cancelled")
        assert await cancels.next() == writer.id
        assert await rig.redis.hget(keys.request(writer.id), "cancel") == b"request"
        if running:
            await writer.end(events.Cancelled("request"))
        frames = await stream.read()
    assert frames[-2].json["error"]["code"] == "request_cancelled"
    assert frames[-1].done
    answer = await rig.http.post(f"{second.completions}/{writer.id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert (await rig.http.get(f"{first.completions}/{writer.id}")).status_code == 499


async def test_a_cancel_does_not_end_a_stream_that_a_worker_has_begun(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask():
        writer = await (await rig.next_job()).start()
        await rig.redis.hset(keys.request(writer.id), "status", "queued")  # the worker's two writes, half seen
        await rig.http.post(f"{served.completions}/{writer.id}/cancel")
        entries: Any = await rig.redis.xrange(keys.events(writer.id))
        assert [fields[b"event"] for _, fields in entries] == [b"started"]


async def test_a_finished_request_is_not_cancelled(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await (await writer.say("a")).finish()
        await stream.read()
    answer = await rig.http.post(f"{served.completions}/{writer.id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "finished")


async def test_readers_of_what_has_expired_leave_nothing_behind(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await rig.next_job()
        await rig.redis.delete(keys.request(writer.id))
        stream.reset()
    await until(lambda: not len(served.gateway.open_streams))
    await served.gateway.presence.aclose()
    assert not await rig.redis.exists(keys.request(writer.id))


async def read(served: Served, key: str, seen: list[Stream], **given: Any) -> None:
    async with served.ask(headers={"idempotency-key": key}, **given) as stream:
        seen.append(stream)
        await stream.read()


async def test_the_same_key_twice_at_once_and_once_later_is_one_generation(rig: Rig) -> None:
    first, second = await rig.serve(), await rig.serve()
    seen: list[Stream] = []
    async with asyncio.TaskGroup() as group:
        for served in (first, second):
            group.create_task(read(served, "key", seen))
        writer = await (await rig.next_job()).start()
        await until(lambda: len(seen) == 2)
        await (await writer.say("a", "b")).finish()
    await read(first, "key", seen)
    assert len({stream.request_id for stream in seen}) == 1
    assert len({b"".join(frame.raw for frame in stream.frames) for stream in seen}) == 1
    assert seen[0].text == "ab"
    # Two that come at once may both queue the job: the workers run one of them, by the id.
    assert {work.id for work in [writer]} == {seen[0].request_id}


async def test_a_key_with_another_body_is_409_and_of_another_tenant_its_own(rig: Rig) -> None:
    served = await rig.serve(api_keys=("key-1", "key-2"))
    first = {"idempotency-key": "k", "authorization": "Bearer key-1", POLICY: "continue"}
    body = QUESTION | {"stream": True}
    async with opened(served.completions, body=body, headers=first) as stream:
        assert stream.status == 200
        mine = await rig.next_job()
    reordered = dict(reversed(body.items()))
    async with opened(served.completions, body=reordered, headers=first) as stream:
        assert stream.request_id == mine.id
    answer = await rig.http.post(served.completions, json=body | {"seed": 1}, headers=first)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_conflict")
    async with opened(served.completions, body=body, headers=first | {"authorization": "Bearer key-2"}) as stream:
        assert stream.request_id != mine.id


async def test_a_key_whose_job_was_never_queued_queues_it(rig: Rig) -> None:
    served = await rig.serve()
    headers = {"idempotency-key": "k", POLICY: "continue"}
    async with served.ask(headers=headers):
        lost = await rig.next_job()
    await rig.redis.delete(keys.jobs())
    await rig.redis.hdel(keys.request(lost.id), "enqueued")  # as if the gateway had died in between
    async with served.ask(headers=headers) as stream:
        rig._seen = "0-0"
        assert (await rig.next_job()).id == stream.request_id == lost.id


async def test_a_key_that_is_too_long_is_400(rig: Rig) -> None:
    served = await rig.serve()
    answer = await rig.http.post(served.completions, json=QUESTION, headers={"idempotency-key": "k" * 256})
    assert answer.status_code == 400


async def test_a_slow_reader_is_closed_and_resumes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("railstream_gateway.stream.stream_response.OVERFLOW_PATIENCE", 0.2)
    monkeypatch.setattr(presence, "CLOSED_GRACE", 60.0)
    served = await rig.serve(client_buffer=100_000, send_timeout=0.5)
    text = "x" * 50_000
    async with served.ask(receive_buffer=4096) as slow:
        writer = await (await rig.next_job()).start()
        async with served.resume(writer.id) as quick:
            for number in range(400):
                await writer.say(f"{number} {text}")
                await quick.read(frames=number + 2)
            await until(lambda: len(served.gateway.open_streams) == 1)
            with pytest.raises(Exception, match="cut after"):
                await slow.read()
            assert await rig.redis.hget(keys.request(writer.id), "cancel") is None
            await writer.finish()
            await quick.read()
    async with served.resume(writer.id, slow.last_event_id) as rest:
        await rest.read()
    assert slow.text + rest.text == quick.text
    assert quick.done


async def test_a_client_that_takes_no_byte_is_closed_after_the_send_timeout(rig: Rig) -> None:
    """The client's buffer holds all that is written: only the timer of a send that does not end can close it."""
    served = await rig.serve(send_timeout=0.5, client_buffer=64 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    async with served.ask(receive_buffer=4096):
        writer = await (await rig.next_job()).start()
        for _ in range(100):
            await writer.say("x" * 100_000)
        began = loop.time()
        await until(lambda: not len(served.gateway.open_streams), timeout=10)
        assert loop.time() - began < 5


async def test_a_client_that_takes_its_bytes_late_but_in_time_is_not_closed(rig: Rig) -> None:
    served = await rig.serve(send_timeout=60, client_buffer=64 * 1024 * 1024)
    async with served.ask(receive_buffer=4096) as stream:
        writer = await (await rig.next_job()).start()
        for _ in range(100):
            await writer.say("x" * 100_000)
        await writer.finish()
        await stream.read()
    assert stream.done
    assert len(stream.text) == 100 * 100_000
