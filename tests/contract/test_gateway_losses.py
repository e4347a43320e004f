"""What a stream loses on the way is healed, or said with a gap: never silence, never a replay as if it were new."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from contract.gateway_rig import Rig, Served, Writer
from harness.sse import Frame, Stream
from openai import APIError
from railstream import events, keys
from railstream_gateway.stream import relay


async def whole(served: Served, request_id: str, after: str | None = None) -> list[Frame]:
    async with served.resume(request_id, after) as stream:
        assert stream.status == 200
        frames: list[Frame] = await stream.read()
        return frames


async def finished_stream(rig: Rig, served: Served, **given: Any) -> tuple[Writer, list[Frame]]:
    async with served.ask(**given) as stream:
        writer = await (await rig.next_job()).start()
        await (await writer.say("a", "b", "c")).finish()
        return writer, await stream.read()


async def test_what_the_channel_doubles_misses_or_garbles_is_healed_from_the_stream(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a")
        await writer.write(events.CHUNK, b'{"content": "a"}', id="1-1", stored=False)
        await writer.write(events.CHUNK, b'{"content": "b"}', published=False)
        await rig.redis.publish(keys.live(writer.id), b"nonsense")
        await writer.write(events.CHUNK, b'{"content": "c"}', published=False)
        await writer.write(events.CHUNK, b'{"content": "d"}')
        await writer.write(events.CHUNK, b'{"content": "a"}', id="1-1", stored=False)
        await writer.finish()
        await stream.read()
    assert stream.text == "abcd"
    assert stream.done


async def test_a_worker_that_dies_between_append_and_publish_is_noticed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "PATIENCE", 0.1)
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a")
        await writer.write(events.CHUNK, b'{"content": "b"}', published=False)
        await writer.write(*events.encode(events.Finished(("stop",))), published=False)
        await stream.read()
    assert stream.text == "ab"


async def test_streams_survive_that_redis_kills_every_subscriber(rig: Rig) -> None:
    served = await rig.serve()
    streams: list[Stream] = []
    writers: list[Writer] = []
    async with asyncio.TaskGroup() as group:

        async def read() -> None:
            async with served.ask() as stream:
                streams.append(stream)
                await stream.read()

        for _ in range(20):
            group.create_task(read())
        writers = [await (await rig.next_job()).start() for _ in range(20)]
        for round in range(6):
            await rig.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.gather(*(writer.say(f"{round} ", f"{round}. ") for writer in writers))
        await asyncio.gather(*(writer.finish() for writer in writers))
    assert {stream.text for stream in streams} == {"".join(f"{round} {round}. " for round in range(6))}
    assert all(stream.done for stream in streams)


async def test_a_new_attempt_goes_on_where_the_old_one_stopped(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a", "b")
        await stream.read(frames=3)
        await writer.take_over(after="1-2")
        await (await writer.say("c")).finish()
        frames = await stream.read()
    assert [frame.id for frame in frames] == ["1-0", "1-1", "1-2", "2-1", "2-2", None]
    assert stream.text == "abc"
    assert await whole(served, writer.id) == frames


async def test_text_that_the_new_attempt_does_not_know_is_a_gap(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a", "b")
        await stream.read(frames=3)
        await rig.redis.xdel(keys.events(writer.id), "1-2")
        await writer.take_over(after="1-1")
        frames = await stream.read()
    assert frames[3].event == "gap"
    assert frames[3].id is None
    assert frames[3].json["error"]["type"] == "stream_gap"
    assert frames[3].json["gap"] == {"requested": "1-2", "earliest": "1-0", "latest": "2-0"}
    assert frames[4].done
    assert stream.text == "ab"


async def test_events_that_were_trimmed_away_are_a_gap_and_not_silence(rig: Rig) -> None:
    served = await rig.serve()
    writer, _ = await finished_stream(rig, served)
    await rig.redis.xtrim(keys.events(writer.id), maxlen=2, approximate=False)
    for after in (None, "1-1"):
        frames = await whole(served, writer.id, after)
        assert [frame.event for frame in frames] == ["gap", None]
        assert frames[0].json["gap"]["requested"] == (after or "0-0")
    assert [frame.id for frame in await whole(served, writer.id, "1-2")] == ["1-3", "1-4", None]
    native = await rig.http.get(f"{served.completions}/{writer.id}/events")
    assert native.text.startswith("event: gap\ndata: ")


async def test_a_stream_that_is_gone_from_redis_is_a_gap(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "PATIENCE", 0.1)
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a")
        await stream.read(frames=2)
        await rig.redis.flushall()
        frames = await stream.read()
    assert [frame.event for frame in frames] == [None, None, "gap", None]


async def test_another_stream_under_the_same_ids_is_a_gap(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a")
        await stream.read(frames=2)
        await rig.redis.delete(keys.events(writer.id))
        other = events.Started(writer.id, "testing", 1)
        await writer.write(*events.encode(other), id="1-0")
        frames = await stream.read()
    assert frames[2].event == "gap"


async def test_the_sdk_raises_at_a_gap(rig: Rig) -> None:
    served = await rig.serve()
    writer, _ = await finished_stream(rig, served)
    await rig.redis.xtrim(keys.events(writer.id), maxlen=2, approximate=False)
    async with served.client() as client:
        stream = await client.chat.completions.with_raw_response.create(
            model="testing", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        other = await (await rig.next_job()).start()
        await other.say("a")
        await rig.redis.xdel(keys.events(other.id), "1-1")
        await other.take_over(after="1-0")
        with pytest.raises(APIError):
            [chunk async for chunk in stream.parse()]


@pytest.mark.parametrize("key", [keys.events, keys.request])
async def test_a_key_of_a_request_that_has_another_type_is_a_gap_and_not_silence(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, key: Callable[[str], str]
) -> None:
    monkeypatch.setattr(relay, "PATIENCE", 0.1)
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a")
        await rig.redis.set(key(writer.id), "not what it was")
        async with asyncio.timeout(10):
            await stream.read()
    assert stream.text == "a"
    assert [frame.event for frame in stream.frames if frame.event] == ["gap"]
