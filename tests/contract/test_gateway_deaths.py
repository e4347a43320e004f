"""Gateways that die leave their readers counted: nobody waits for those, and nobody is taken for dead who lives."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract.gateway_rig import Cancels, Rig, readers_are
from harness.processes import Gateway
from harness.sse import opened
from harness.waiting import until
from railstream import keys
from railstream_gateway.accept import presence


async def alive(rig: Rig, count: int) -> set[str]:
    """The keys of so many gateways."""
    found: set[bytes] = set()

    async def there() -> bool:
        found.clear()
        found.update([key async for key in rig.redis.scan_iter(match=keys.gateway("*"))])
        return len(found) == count

    await until(there, what=f"{count} gateways live")
    return {key.decode() for key in found}


async def test_readers_of_a_killed_gateway_keep_no_request_running(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await rig.serve()
    own = await alive(rig, 1)
    killed = Gateway("killed", redis_url=rig.redis_url, config=tmp_path / "configs", directory=tmp_path).start()
    try:
        await killed.alive()
        async with Cancels(rig.redis) as cancels, served.ask() as stream:
            writer = await (await rig.next_job()).start()
            async with opened(f"{killed.api}/chat/completions/{writer.id}?stream=true"):
                await until(lambda: readers_are(rig, writer, 2))
                (key,) = await alive(rig, 2) - own
                await killed.kill()
            monkeypatch.setattr(presence, "LIFE", 0.2)  # of those that have to be waited for from now on
            stream.reset()
            await until(lambda: not len(served.gateway.open_streams))
            assert await cancels.next(timeout=1) is None, "its key lives on: its readers may come back"
        async with Cancels(rig.redis) as cancels, served.resume(writer.id) as stream:
            await until(lambda: readers_are(rig, writer, 2))
            await rig.redis.delete(key)  # as its life was over
            stream.reset()
            assert await cancels.next() == writer.id
    finally:
        killed.stop()


async def test_a_gateway_that_dies_after_another_ones_reader_left_is_noticed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LIFE", 0.5)
    served = await rig.serve()
    async with Cancels(rig.redis) as cancels, served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await rig.redis.hset(keys.request(writer.id), "readers:dying", 1)
        await rig.redis.set(keys.gateway("dying"), 1, px=100)
        stream.reset()
        assert await cancels.next() == writer.id


async def test_a_gateway_that_lives_keeps_its_readers_request_running(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LIFE", 2.0)
    first, second = await rig.serve(), await rig.serve()
    async with Cancels(rig.redis) as cancels, first.ask() as stream:
        writer = await (await rig.next_job()).start()
        async with second.resume(writer.id) as other:
            await until(lambda: readers_are(rig, writer, 2))
            stream.reset()
            assert await cancels.next(timeout=3) is None
            await (await writer.say("a")).finish()
            await other.read()
            assert other.text == "a"


async def test_a_gateway_that_has_not_lived_long_calls_nobody_dead(rig: Rig) -> None:
    served = await rig.serve()
    await alive(rig, 1)
    async with Cancels(rig.redis) as cancels, served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await rig.redis.hset(keys.request(writer.id), "readers:other", 1)
        stream.reset()
        assert await cancels.next(timeout=0.5) is None, "Redis may just have come back, and its key with the next beat"


async def test_a_gateway_that_stops_takes_its_key_along(rig: Rig) -> None:
    served = await rig.serve()
    (key,) = await alive(rig, 1)
    assert 0 < await rig.redis.pttl(key) <= presence.LIFE * 1000
    served.server.should_exit = True
    await alive(rig, 0)
