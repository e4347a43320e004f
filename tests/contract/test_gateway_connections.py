"""Pooled connections to Redis that died together cost nobody an error, whatever is asked; and nothing is done twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from contract.gateway_rig import QUESTION, Rig, Served, Writer
from harness.proxy import Proxy
from harness.waiting import until
from railstream import events, keys
from railstream.topology.repeating import is_repeatable

MANY = 20
CONTINUE = {"x-railstream-on-disconnect": "continue"}


async def _finished(rig: Rig, served: Served) -> Writer:
    async with served.ask(headers=CONTINUE) as stream:
        writer = await (await rig.next_job()).start()
        await (await writer.say("a")).finish()
        await stream.read()
    return writer


async def _break_pool(served: Served, proxy: Proxy) -> None:
    """Fill the pool with used connections; then each of them is reset at its next byte."""
    await asyncio.gather(*(served.gateway.redis.exists(keys.NEVER) for _ in range(MANY * 2)))
    proxy.reset_at_next_byte()


async def _post(rig: Rig, served: Served, number: int, kind: str, id: str) -> int:
    headers = dict(CONTINUE)
    body: dict[str, Any] = QUESTION | {"stream": True}
    url = served.completions
    match kind:
        case "resume":
            async with served.resume(id) as stream:
                return int(stream.status)
        case "read":
            return (await rig.http.get(f"{url}/{id}")).status_code
        case "cancel":
            return (await rig.http.post(f"{url}/{id}/cancel")).status_code
        case "create with a key":
            headers["idempotency-key"] = f"k{number}"
        case "create on a thread":
            body["thread_id"] = f"a-thread-of-its-own-{number}"
    async with served.ask(headers=headers, **body) as stream:
        return int(stream.status)


KINDS = ("create", "resume", "read", "cancel", "create with a key", "create on a thread")


@pytest.mark.parametrize("kind", KINDS)
async def test_connections_that_died_together_cost_nobody_an_error(rig: Rig, redis_url: str, kind: str) -> None:
    async with Proxy.to(redis_url) as proxy:
        served = await rig.serve(redis_url=proxy.url(redis_url))
        await until(lambda: served.gateway.hub.connected)
        writer = await _finished(rig, served)
        await _break_pool(served, proxy)
        statuses = await asyncio.gather(*(_post(rig, served, n, kind, writer.id) for n in range(MANY)))
        assert statuses == [200] * MANY
        if kind.startswith("create"):
            queued: Any = await rig.redis.xrange(keys.jobs())
            assert len(queued) == MANY + 1


async def test_a_reader_is_counted_once_though_its_command_is_repeated(rig: Rig, redis_url: str) -> None:
    async with Proxy.to(redis_url) as proxy:
        served = await rig.serve(redis_url=proxy.url(redis_url))
        async with served.ask(headers=CONTINUE):
            writer = await (await rig.next_job()).start()
            await _break_pool(served, proxy)
            async with served.resume(writer.id):
                assert await rig.redis.hget(keys.request(writer.id), "readers") == b"2"


def test_what_is_not_known_to_be_repeatable_is_not_repeated() -> None:
    assert is_repeatable(("HSET", "k", "f", "v"))
    assert is_repeatable(("SET", "k", "v", "PX", 1))
    for args in (("XADD", "k", "*", "f", "v"), ("HINCRBY", "k", "f", 1), ("EVAL", "return 1", 0), ("FUTURE", "k")):
        assert not is_repeatable(args)
    assert not is_repeatable(("SET", "k", "v", "EX", 1, "NX"))


async def test_a_repeat_after_a_broken_connection_is_generated_and_not_answered_with_the_cancel(rig: Rig) -> None:
    served = await rig.serve()
    headers = {"idempotency-key": "k"}
    async with served.ask(headers=headers) as stream:
        first = await (await rig.next_job()).start()
        await first.say("a")
        await stream.read(frames=1)
        stream.reset()

    async def cancelling() -> bool:
        return await rig.redis.hget(keys.request(first.id), "cancel") == b"disconnect"

    await until(cancelling)
    for ended in (False, True):
        if ended:
            await first.end(events.Cancelled("disconnect"))
        async with served.ask(headers=headers | CONTINUE) as stream:
            assert stream.request_id != first.id
    again = await (await rig.next_job()).start()
    await (await again.say("b")).finish()
    async with served.ask(headers=headers) as stream:
        await stream.read()
    assert (stream.request_id, stream.text) == (again.id, "b")
    assert await rig.queued() == 2


async def test_an_explicit_cancel_is_what_a_repeat_gets(rig: Rig) -> None:
    served = await rig.serve()
    headers = {"idempotency-key": "k"} | CONTINUE
    async with served.ask(headers=headers):
        writer = await rig.next_job()
    await rig.http.post(f"{served.completions}/{writer.id}/cancel")
    answer = await rig.http.post(served.completions, json=QUESTION | {"stream": True}, headers=headers)
    assert answer.headers["x-request-id"] == writer.id
    assert "request_cancelled" in answer.text


async def test_a_key_whose_answer_has_expired_begins_a_new_request(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("railstream_gateway.accept.enqueue.YOUNG", 0.0)
    served = await rig.serve()
    headers = {"idempotency-key": "k"} | CONTINUE
    async with served.ask(headers=headers):
        old = await rig.next_job()
    await rig.redis.delete(keys.request(old.id), keys.events(old.id))
    async with served.ask(headers=headers) as stream:
        assert stream.request_id != old.id


async def test_a_key_does_not_cross_endpoints(rig: Rig) -> None:
    served = await rig.serve()
    headers = {"idempotency-key": "k"}
    body = {"messages": QUESTION["messages"], "config_id": "whole"}
    ids = []
    for path in ("chat/completions", "checks"):
        asking = asyncio.create_task(rig.http.post(f"{served.api}/{path}", json=body, headers=headers))
        writer = await (await rig.next_job()).start()
        await writer.end(events.Finished((), result={"kind": writer.job.kind}))
        assert (await asking).json() == {"kind": "chat" if path.startswith("chat") else "checks"}
        ids.append(writer.id)
    assert ids[0] != ids[1]
