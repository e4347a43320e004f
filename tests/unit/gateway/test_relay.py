"""What leaves a relay is what follows; all else makes it look into the stream. (With Redis: the contract suite.)"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from railstream import events
from railstream.events import Event
from railstream.ids import START, EventId
from railstream_gateway.accept.presence import grace_of, parse_policy
from railstream_gateway.stream.hub import Hub
from railstream_gateway.stream.relay import Gap, Relay

STARTED = events.encode(events.Started("chatcmpl-1", "m", 1))


def at(attempt: int, seq: int, name: bytes = events.CHUNK, data: bytes = b"{}") -> Event:
    return Event(EventId(attempt, seq), name, data)


def restarted(attempt: int, after: str) -> Event:
    return Event(EventId(attempt, 0), *events.encode(events.Restarted(attempt, after, "lease_expired")))


async def relay(after: EventId = START, limit: int = 1000) -> Relay:
    return Relay(cast(Any, None), cast(Hub, None), "chatcmpl-1", after=after, limit=limit)


async def test_events_leave_in_order_and_once() -> None:
    reader = await relay()
    for event in (at(1, 0, *STARTED), at(1, 1), at(1, 1), at(1, 2), at(1, 0, *STARTED)):
        reader.deliver(event)
    assert [str(event.id) for event in await reader.read(1)] == ["1-0", "1-1", "1-2"]


async def test_ids_are_compared_as_numbers() -> None:
    reader = await relay(after=EventId(1, 9))
    reader.deliver(at(1, 10))
    assert [event.id for event in await reader.read(1)] == [EventId(1, 10)]


@pytest.mark.parametrize(
    ("after", "event", "follows"),
    [
        (START, at(1, 0, *STARTED), True),
        (START, at(0, 1), True),
        (START, at(1, 1), False),
        (START, at(2, 0), False),
        (EventId(1, 4), at(1, 6), False),
        (EventId(1, 4), restarted(2, "1-4"), True),
        (EventId(1, 4), restarted(3, "1-4"), True),
        (EventId(1, 4), restarted(2, "1-3"), False),
        (EventId(1, 4), restarted(2, "1-5"), False),
        (EventId(1, 4), at(2, 1), False),
    ],
)
async def test_only_what_continues_follows(after: EventId, event: Event, follows: bool) -> None:
    assert (await relay(after=after))._follows(event) is follows


async def test_nothing_leaves_after_the_first_terminal_event() -> None:
    reader = await relay(after=EventId(1, 1))
    reader.deliver(at(1, 2, *events.encode(events.Finished(("stop",)))))
    reader.deliver(at(1, 3))
    assert len(await reader.read(1)) == 1
    assert reader.ended


async def test_another_start_under_the_same_id_is_a_gap() -> None:
    reader = await relay()
    reader.deliver(at(1, 0, *STARTED))
    await reader.read(1)
    reader.deliver(at(1, 0, events.STARTED, b'{"other":1}'))
    with pytest.raises(Gap):
        await reader.read(1)


async def test_a_wake_and_a_timeout_return_nothing() -> None:
    reader = await relay(after=EventId(1, 1))
    reading = asyncio.create_task(reader.read(60))
    await asyncio.sleep(0)
    reader.wake()
    assert await reading == []
    assert await reader.read(0.01) == []
    reader.wake()
    assert await reader.read(60) == []


@pytest.mark.parametrize(
    ("payload", "passes"),
    [
        (b'1-5 chunk 0\n{"content":"a"}', True),
        (b'1-4 chunk 0\n{"content":"a"}', False),
        (b'1-6 chunk 0\n{"content":"a"}', False),
        (b'1-50 chunk 0\n{"content":"a"}', False),
        (b'2-5 chunk 0\n{"content":"a"}', False),
        (b'1-5 chunk 11\n{"index":1}{"content":"a"}', False),
        (b'1-5 finished 0\n{"finish_reasons":["stop"]}', False),
    ],
)
async def test_only_the_plain_chunk_that_comes_next_passes_a_waiting_reader(payload: bytes, passes: bool) -> None:
    reader = await relay(after=EventId(1, 4))
    taken: list[tuple[bytes, bytes]] = []

    def take(position: bytes, delta: bytes) -> bool:
        taken.append((position, delta))
        return True

    reader.lane = take
    assert not reader.passes(payload), "nobody waits"
    reading = asyncio.create_task(reader.read(60))
    await asyncio.sleep(0)
    assert reader.passes(payload) is passes
    assert taken == ([(b"1-5", b'{"content":"a"}')] if passes else [])
    assert str(reader.cursor) == ("1-5" if passes else "1-4")
    reader.resync()
    assert not reader.passes(b"1-6 chunk 0\n{}"), "events may have been missed"
    reading.cancel()


async def test_a_chunk_that_cannot_be_taken_now_does_not_pass() -> None:
    reader = await relay(after=EventId(1, 4))
    reader.lane = lambda position, delta: False
    reading = asyncio.create_task(reader.read(60))
    await asyncio.sleep(0)
    assert not reader.passes(b"1-5 chunk 0\n{}")
    assert reader.cursor == EventId(1, 4)
    reader.deliver(at(1, 5))
    assert [event.id for event in await reading] == [EventId(1, 5)]


async def test_what_waits_for_a_slow_reader_is_bounded() -> None:
    overflows: list[int] = []
    reader = Relay(
        cast(Any, None), cast(Hub, None), "chatcmpl-1", after=EventId(1, 0), limit=100,
        overflowed=lambda: overflows.append(1),
    )  # fmt: skip
    for seq in range(1, 50):
        reader.deliver(at(1, seq, data=b"x" * 60))
    assert overflows
    assert reader._inbox_bytes <= 100


@pytest.mark.parametrize(
    ("value", "policy", "grace"),
    [(None, "", None), ("cancel", "cancel", None), (" Continue ", "continue", None), ("grace=1.5", "grace=1.5", 1.5)],
)
def test_policies_are_read(value: str | None, policy: str, grace: float | None) -> None:
    assert parse_policy(value) == policy
    assert grace_of(policy) == grace
