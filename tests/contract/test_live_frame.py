"""The live frame: what every writer publishes, every reader understands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from railstream import keys, live_frame
from railstream.events import Event
from railstream.ids import EventId
from railstream.live_frame import PLAIN
from railstream_worker.stream.appends import Told
from railstream_worker.stream.fenced_stream import FencedStream
from redis.asyncio import Redis

NUMBERS = st.integers(1, 2**53)
NAMES = st.sampled_from([b"chunk", b"started", b"usage", b"finished", b"operation_started"])
DATA = st.binary(max_size=80)


@given(attempt=NUMBERS, seq=NUMBERS, name=NAMES, data=DATA, choice=DATA)
def test_a_frame_is_read_as_it_was_written(attempt: int, seq: int, name: bytes, data: bytes, choice: bytes) -> None:
    frame = live_frame.encode(b"%d-%d" % (attempt, seq), name, data, choice)
    assert live_frame.decode(frame) == Event(EventId(attempt, seq), name, data, choice)


@given(data=DATA)
def test_a_plain_chunk_is_its_id_a_constant_and_its_delta(data: bytes) -> None:
    assert live_frame.encode(b"1-2", b"chunk", data) == b"1-2" + PLAIN + data


@given(delta=DATA, choice=DATA)
def test_what_a_stream_packs_by_hand_holds_the_same_frame(delta: bytes, choice: bytes) -> None:
    stream = FencedStream("chatcmpl-" + "0" * 32, 3, _NoBatch(), opening=(b"started", b"{}"))
    packed = stream.pack(7, Told(delta, choice) if choice else delta)
    assert packed.endswith(live_frame.encode(b"3-7", b"chunk", delta, choice) + b"\r\n")


class _NoBatch:
    def send(self, *_: object) -> None:
        raise AssertionError("nothing is sent")


@pytest.mark.parametrize(
    "frame", [b"", b"nonsense", b"1 chunk 0\n", b"1-a chunk 0\n", b"1-1 chunk x\n{}", b"1-1 chunk\n"]
)
def test_what_is_no_frame_is_a_value_error(frame: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any kind of it
        live_frame.decode(frame)


@pytest.mark.parametrize("data", [b"{}", b'{"a":\n1}', '{"a":"é\u2028"}'.encode()])
async def test_a_script_publishes_the_same_frame(redis: Redis, data: bytes) -> None:
    channel = keys.live("chatcmpl-" + "0" * 32)
    async with redis.pubsub() as heard:
        await heard.subscribe(channel)
        assert (await heard.get_message(timeout=5))["type"] == "subscribe"
        await redis.eval(live_frame.LUA + "live(KEYS[1], ARGV[1], ARGV[2], ARGV[3])", 1, channel, "4-9", "usage", data)
        message = await heard.get_message(timeout=5)
    assert message["data"] == live_frame.encode(b"4-9", b"usage", data)
