"""A gateway that stops: nothing new, what runs goes on for a while, the rest is closed so that it can be resumed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from contract.gateway_rig import QUESTION, Rig
from harness.processes import Gateway
from harness.sse import Incomplete, opened
from harness.waiting import until
from railstream import keys


async def test_new_requests_are_refused_while_running_streams_end(rig: Rig) -> None:
    served = await rig.serve(drain_timeout=20)
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a")
        await stream.read(frames=2)
        served.server.should_exit = True
        await until(lambda: served.gateway.open_streams.draining)
        ready = await rig.http.get(f"{served.url}/readyz")
        assert (ready.status_code, ready.json()["draining"]) == (503, True)
        assert ready.headers["connection"] == "close"
        answer = await rig.http.post(served.completions, json=QUESTION)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
        assert answer.headers["retry-after"]
        assert answer.headers["connection"] == "close"
        await (await writer.say("b")).finish()
        await stream.read()
    assert stream.text == "ab"
    assert stream.done


async def test_what_does_not_end_in_time_is_cut_and_goes_on_at_another_gateway(rig: Rig) -> None:
    stopping, other = await rig.serve(drain_timeout=0.5), await rig.serve()
    async with stopping.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a")
        await stream.read(frames=2)
        stopping.server.should_exit = True
        with pytest.raises(Incomplete):
            await stream.read()
    assert not stream.done
    assert stream.raw.endswith(b"\n: this gateway stops, resume with Last-Event-ID\n")
    async with other.resume(writer.id, stream.last_event_id) as rest:
        assert await rig.redis.hget(keys.request(writer.id), "cancel") is None
        await (await writer.say("b")).finish()
        await rest.read()
    assert stream.text + rest.text == "ab"
    assert rest.done


async def test_an_answer_that_does_not_come_in_time_is_503_with_its_id(rig: Rig) -> None:
    served = await rig.serve(drain_timeout=0.5)
    posted = asyncio.create_task(rig.http.post(served.completions, json=QUESTION))
    writer = await rig.next_job()
    served.server.should_exit = True
    answer = await posted
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
    assert answer.headers["x-request-id"] == writer.id
    assert answer.headers["retry-after"]
    assert await rig.redis.hget(keys.request(writer.id), "cancel") is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_with_0_in_time(rig: Rig, tmp_path: Path, number: signal.Signals) -> None:
    gateway = Gateway(
        "gateway", redis_url=rig.redis_url, config=None, directory=tmp_path, options=("--drain-timeout", "2")
    ).start()
    try:
        await gateway.alive()
        body = {"messages": QUESTION["messages"], "stream": True}
        async with opened(f"{gateway.api}/chat/completions", body=body) as stream:
            writer = await rig.next_job()
            gateway.signal(number)
            assert await gateway.wait(timeout=4) == 0
            with pytest.raises(Incomplete):
                await stream.read()
        assert await rig.redis.hget(keys.request(writer.id), "cancel") is None
        assert "Traceback" not in gateway.output()
    finally:
        gateway.stop()
