"""A stream as the client gets it: every frame once, in order, byte for byte, from any position, on any gateway."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from contract.gateway_rig import QUESTION, Rig, Served, Writer
from harness.sse import Frame
from railstream import events

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
DELTAS = [
    b'{"role":"assistant","content":""}',
    b'{"content":""}',
    b'{"content":"  \\n\\t "}',
    '{"content":"héllo wörld ≈ 漢字 🎉"}'.encode(),
    b'{"content":"\\ud83c"}',
    b'{"content":"{\\"error\\": {\\"message\\": \\"no\\"}}"}',
    b'{"content":"data: [DONE]"}',
    b'{ "content" :  "spaces" , "unknown": [1, 2.50, null] }',
    b'{"content":"same"}',
    b'{"content":"same"}',
    b'{"content":"%b"}' % (b"x" * 1_000_000),
]


async def whole(served: Served, request_id: str, after: str | None = None) -> list[Frame]:
    async with served.resume(request_id, after) as stream:
        assert stream.status == 200
        frames: list[Frame] = await stream.read()
        return frames


async def test_the_first_frame_has_the_role_the_last_a_reason_then_usage_then_done(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask(stream_options={"include_usage": True}) as stream:
        writer = await (await rig.next_job()).start()
        await (await writer.say("a", "b")).finish(usage=USAGE)
        frames = await stream.read()
    assert [frame.id for frame in frames] == ["1-0", "1-1", "1-2", "1-3", "1-4", None]
    chunks = [frame.json for frame in frames[:-1]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["usage"] for chunk in chunks] == [None] * 4 + [USAGE]
    assert chunks[3]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert chunks[4]["choices"] == []
    assert {(chunk["id"], chunk["object"], chunk["model"]) for chunk in chunks} == {
        (writer.id, "chat.completion.chunk", "testing")
    }
    assert frames[-1].done


async def test_the_headers_forbid_buffering_and_name_the_request(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await rig.next_job()
        assert stream.headers["x-request-id"] == writer.id
        assert stream.headers["cache-control"] == "no-cache, no-transform"
        assert stream.headers["x-accel-buffering"] == "no"
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert "server" not in stream.headers


async def test_deltas_arrive_byte_for_byte_one_frame_per_chunk(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        for delta in DELTAS:
            await writer.write(events.CHUNK, delta)
        await writer.finish()
        frames = await stream.read()
    assert len(frames) == len(DELTAS) + 2
    for frame, delta in zip(frames, DELTAS, strict=False):
        assert b'"delta":' + delta + b',"logprobs"' in frame.raw


async def test_other_choices_and_logprobs_stand_in_their_own_place(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask(n=2, logprobs=True) as stream:
        writer = await (await rig.next_job()).start()
        await writer.write(events.CHUNK, b'{"content":"a"}', b'{"index":1,"logprobs":{"content":[{"token":"a"}]}}')
        await writer.finish("stop", "length")
        frames = await stream.read()
    choice = frames[1].json["choices"][0]
    assert choice["index"] == 1
    assert choice["logprobs"] == {"content": [{"token": "a"}]}
    last = [frame.json["choices"][0] for frame in frames[2:4]]
    assert [(choice["index"], choice["finish_reason"]) for choice in last] == [(0, "stop"), (1, "length")]


async def cut_and_resume(first: Served, second: Served, rig: Rig, cut: int, writer_ends: asyncio.Event) -> list[Frame]:
    """The frames of a client that is cut after ``cut`` frames and goes on at the other gateway."""
    async with first.ask(
        stream_options={"include_usage": True}, headers={"x-railstream-on-disconnect": "continue"}
    ) as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a", "b", "c")
        if cut > 4:
            await writer.finish(usage=USAGE)
        seen = list(await stream.read(frames=cut)) if cut else []
        stream.reset()
    after = next((frame.id for frame in reversed(seen) if frame.id), None)
    async with second.resume(writer.id, after) as rest:
        if cut <= 4:
            await writer.finish(usage=USAGE)
        seen += await rest.read()
    writer_ends.set()
    again = await whole(second, writer.id)
    assert [frame.raw for frame in seen] == [frame.raw for frame in again]
    return again


@pytest.mark.parametrize("cut", range(7))
async def test_a_stream_cut_after_any_frame_goes_on_at_another_gateway(rig: Rig, cut: int) -> None:
    first, second = await rig.serve(), await rig.serve()
    frames = await cut_and_resume(first, second, rig, cut, asyncio.Event())
    assert len(frames) == 7
    assert frames[-1].done


async def finished_stream(rig: Rig, served: Served, **given: Any) -> tuple[Writer, list[Frame]]:
    async with served.ask(**given) as stream:
        writer = await (await rig.next_job()).start()
        await (await writer.say("a", "b", "c")).finish(usage=USAGE)
        return writer, await stream.read()


async def test_a_stream_that_has_ended_replays_the_same_bytes_from_any_position(rig: Rig) -> None:
    first, second = await rig.serve(), await rig.serve()
    writer, frames = await finished_stream(rig, first, stream_options={"include_usage": True})
    ids = [frame.id for frame in frames if frame.id]
    assert await whole(second, writer.id) == frames
    for position, id in enumerate(ids):
        assert await whole(second, writer.id, id) == frames[position + 1 :]
        answer = await rig.http.get(f"{second.completions}/{writer.id}?stream=true&starting_after={id}")
        assert answer.content == b"".join(frame.raw for frame in frames[position + 1 :])


async def test_the_native_view_shows_every_event_by_its_name(rig: Rig) -> None:
    served = await rig.serve()
    writer, _ = await finished_stream(rig, served)
    answer = await rig.http.get(f"{served.completions}/{writer.id}/events")
    blocks = [Frame(block.encode()) for block in answer.text.split("\n\n") if block]
    assert [(block.id, block.event) for block in blocks] == [
        ("1-0", "started"),
        ("1-1", "chunk"),
        ("1-2", "chunk"),
        ("1-3", "chunk"),
        ("1-4", "finished"),
    ]
    assert blocks[1].data == '{"content": "a"}'
    rest = await rig.http.get(f"{served.completions}/{writer.id}/events", headers={"last-event-id": "1-3"})
    assert rest.text.startswith("id: 1-4\nevent: finished\n")
    done = await rig.http.get(f"{served.completions}/{writer.id}/events", headers={"last-event-id": "1-4"})
    assert done.status_code == 204


async def test_the_openai_sdk_streams_through_keep_alives_with_usage(rig: Rig) -> None:
    served = await rig.serve(keep_alive=0.05)
    async with served.client() as client:
        asked = asyncio.create_task(
            client.chat.completions.create(
                model="testing",
                messages=[{"role": "user", "content": "hi"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        writer = await (await rig.next_job()).start()
        await writer.say("Hello")
        stream = await asked
        chunks = [await anext(stream), await anext(stream)]
        # While another reader gets three keep-alives, this one gets some too: after an id, where they hurt.
        async with served.resume(writer.id, "1-1") as other:
            await other.read(count=3 * len(b": keep-alive\n"))
        await (await writer.say(" world")).finish(usage=USAGE)
        chunks += [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello world"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 7


async def test_tool_calls_are_relayed_as_the_sdk_expects(rig: Rig) -> None:
    served = await rig.serve()
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    async with (
        served.client() as client,
        client.chat.completions.stream(
            model="testing", messages=[{"role": "user", "content": "hi"}], tools=[tool]
        ) as stream,
    ):
        writer = await (await rig.next_job()).start()
        assert writer.job.params["tools"] == [tool]
        for delta in (
            b'{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_1","type":"function",'
            b'"function":{"name":"look","arguments":""}}]}',
            b'{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\":"}}]}',
            b'{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}',
        ):
            await writer.write(events.CHUNK, delta)
        await writer.finish("tool_calls")
        completion = await stream.get_final_completion()
    message = completion.choices[0].message
    assert message.role == "assistant"
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == '{"a":1}'


async def test_comments_keep_a_queued_stream_alive(rig: Rig) -> None:
    served = await rig.serve(keep_alive=0.02)
    async with served.ask() as stream:
        assert stream.status == 200
        await stream.read(count=3 * len(b": keep-alive\n"))
        assert stream.raw == 3 * b": keep-alive\n"


GUARDRAILS = {
    "config_ids": ["plain"],
    "violation": {"flow": "regex", "stage": "output", "code": "content_blocked"},
}
ENDINGS: list[tuple[events.Payload, list[Any]]] = [
    (
        events.Failed({"message": "no", "type": "upstream_error", "param": None, "code": "timeout"}, status=504),
        [{"error": {"message": "no", "type": "upstream_error", "param": None, "code": "timeout", "status": 504}}],
    ),
    (
        events.Cancelled("request"),
        [
            {
                "error": {
                    "message": "The request was cancelled.",
                    "type": "cancelled",
                    "param": None,
                    "code": "request_cancelled",
                    "status": 499,
                }
            }
        ],
    ),
    (
        events.Blocked("regex", "output", {"code": "content_blocked"}, "error", "Sorry."),
        [{"error": {"code": "content_blocked"}, "guardrails": GUARDRAILS}],
    ),
    (events.Blocked("regex", "output", {}, "content_filter", "Sorry."), ["content_filter"]),
    (events.Blocked("regex", "output", {}, "refusal", "Sorry."), ["Sorry.", "stop"]),
    (events.Blocked("regex", "output", {}, "refusal", "Sorry.", structured=True), ["refusal: Sorry.", "stop"]),
    (events.Blocked("regex", "output", {}, "content_filter", "Sorry.", choices=2), ["content_filter"] * 2),
]


@pytest.mark.parametrize(("payload", "expected"), ENDINGS)
async def test_every_ending_is_told_and_resumes_between_its_frames(
    rig: Rig, payload: events.Payload, expected: list[Any]
) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a")
        await writer.end(payload)
        frames = await stream.read()
    told = [frame.json for frame in frames[2:-1]]
    assert [_meaning(frame) for frame in told] == expected
    assert frames[-1].done
    for position, frame in enumerate(frames[:-1]):
        assert await whole(served, writer.id, frame.id) == frames[position + 1 :]


def _meaning(frame: dict[str, Any]) -> Any:
    if "error" in frame:
        return frame
    choice = frame["choices"][0]
    if "refusal" in choice["delta"]:
        return f"refusal: {choice['delta']['refusal']}"
    return choice["finish_reason"] or choice["delta"]["content"]


@pytest.mark.parametrize("form", ["content_filter", "refusal"])
async def test_a_block_that_is_no_error_names_the_violation_in_its_finish(rig: Rig, form: str) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.end(events.Blocked("regex", "output", {"code": "content_blocked"}, form, "Sorry."))
        frames = await stream.read()
    assert [frame.json["guardrails"] for frame in frames[:-1] if "guardrails" in frame.json] == [GUARDRAILS]


async def test_an_event_source_that_has_read_all_is_told_to_stop(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a")
        await writer.finish()
        last = (await stream.read())[-2].id
    headers = {"cache-control": "no-cache"}
    async with served.resume(writer.id, last, headers=headers) as again:
        assert again.status == 204
    async with served.resume(writer.id, "1-1", headers=headers) as again:
        assert (again.status, len(await again.read())) == (200, 2)
    async with served.resume(writer.id, last) as again:
        assert [frame.done for frame in await again.read()] == [True]


async def test_a_client_that_wants_no_ids_gets_none(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask(headers={"x-railstream-event-ids": "none"}) as stream:
        writer = await (await rig.next_job()).start()
        await writer.say("a", "id: 1-2\n", "b", "c")
        await writer.end(ENDINGS[0][0])
        frames = await stream.read()
    assert stream.text == "aid: 1-2\nbc"
    assert [frame.id for frame in frames] == [None] * len(frames)
    assert frames[-2].json["error"]["code"] == "timeout"
    answer = await rig.http.post(served.completions, json=QUESTION, headers={"x-railstream-event-ids": "no"})
    assert answer.status_code == 400
    assert await rig.queued() == 1


async def test_a_json_line_break_in_a_delta_stays_inside_its_frame(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask() as stream:
        writer = await (await rig.next_job()).start()
        await writer.write(events.CHUNK, b'{\n  "content": "a"\n}')
        await writer.finish()
        frames = await stream.read()
    assert frames[1].json["choices"][0]["delta"] == {"content": "a"}
    assert json.loads(frames[1].data or "")["choices"][0]["index"] == 0
