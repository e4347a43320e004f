"""A request that does not stream gets one answer, whatever its stream ends with; an id gets it again."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from contract.gateway_rig import QUESTION, Rig, Served, Writer
from railstream import events, keys
from railstream.requests import ENDED

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
ERROR = {"message": "Blocked by regex rails.", "type": "guardrails_violation", "param": "regex", "code": "x"}


async def asked(
    rig: Rig, served: Served, payload: events.Payload, *texts: str, **given: Any
) -> tuple[Writer, httpx2.Response]:
    posted = asyncio.create_task(rig.http.post(served.completions, json=QUESTION | given))
    writer = await (await rig.next_job()).start()
    await writer.say(*texts)
    await writer.end(payload)
    return writer, await posted


async def test_an_answer_is_a_chat_completion_with_its_usage(rig: Rig) -> None:
    served = await rig.serve()
    writer, answer = await asked(rig, served, events.Finished(("stop",), usage=USAGE), "Hello ", "world")
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == writer.id
    assert answer.json() == {
        "id": writer.id,
        "object": "chat.completion",
        "created": int(writer.job.created),
        "model": "testing",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello world", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }
    again = await rig.http.get(f"{served.completions}/{writer.id}")
    assert again.json() == answer.json()


async def test_the_sdk_gets_tool_calls_choices_reasoning_and_logprobs(rig: Rig) -> None:
    served = await rig.serve()
    async with served.client() as client:
        posted = asyncio.create_task(
            client.chat.completions.create(
                model="testing", messages=[{"role": "user", "content": "hi"}], n=2, logprobs=True
            )
        )
        writer = await (await rig.next_job()).start()
        for data, choice in (
            (b'{"role":"assistant","reasoning_content":"hm"}', b""),
            (b'{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{"}}]}', b""),
            (
                b'{"tool_calls":[{"index":0,"function":{"arguments":"}"}},{"index":1,"id":"d","type":"function",'
                b'"function":{"name":"g","arguments":""}}]}',
                b"",
            ),
            (
                b'{"content":"one"}',
                b'{"index":1,"logprobs":{"content":[{"token":"one","logprob":-1,"bytes":null,"top_logprobs":[]}]}}',
            ),
        ):
            await writer.write(events.CHUNK, data, choice)
        await writer.finish("tool_calls", "stop")
        completion = await posted
    first, second = completion.choices
    assert first.message.tool_calls is not None
    assert [(call.id, call.function.name, call.function.arguments) for call in first.message.tool_calls] == [
        ("c", "f", "{}"),
        ("d", "g", ""),
    ]
    assert first.message.content is None
    assert first.message.model_extra == {"reasoning_content": "hm"}
    assert (second.message.content, second.finish_reason) == ("one", "stop")
    assert second.logprobs is not None
    assert second.logprobs.content is not None
    assert second.logprobs.content[0].token == "one"


async def test_a_block_is_an_ordinary_refusal_with_the_violation_beside_it(rig: Rig) -> None:
    served = await rig.serve()
    blocked = events.Blocked("regex", "output", ERROR, "error", "I'm sorry.", usage=USAGE)
    writer, answer = await asked(rig, served, blocked, "some text")
    body = answer.json()
    assert answer.status_code == 200
    assert body["choices"][0]["message"]["content"] == "I'm sorry."
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["guardrails"] == {"config_ids": ["plain"], "violation": {"flow": "regex", "stage": "output"} | ERROR}
    assert (await rig.http.get(f"{served.completions}/{writer.id}")).json() == body


@pytest.mark.parametrize(
    ("form", "structured", "content", "refusal", "reason"),
    [
        ("error", False, "No.", None, "stop"),
        ("refusal", False, "No.", None, "stop"),
        ("content_filter", False, "No.", None, "content_filter"),
        ("error", True, None, "No.", "stop"),
        ("refusal", True, None, "No.", "stop"),
        ("content_filter", True, None, None, "content_filter"),
    ],
)
async def test_a_block_has_the_form_that_the_request_and_the_config_ask_for(
    rig: Rig, form: str, structured: bool, content: str | None, refusal: str | None, reason: str
) -> None:
    served = await rig.serve()
    blocked = events.Blocked("regex", "output", ERROR, form, "No.", structured=structured)
    writer, answer = await asked(rig, served, blocked, '{"a": ')
    (choice,) = answer.json()["choices"]
    assert choice["message"] == {"role": "assistant", "content": content, "refusal": refusal}
    assert choice["finish_reason"] == reason
    assert answer.json()["guardrails"]["violation"]["flow"] == "regex"
    assert (await rig.http.get(f"{served.completions}/{writer.id}")).json() == answer.json()


async def test_a_log_is_told_to_who_asked_for_it(rig: Rig) -> None:
    served = await rig.serve()
    finished = events.Finished(("stop",), log={"activated_rails": []})
    _, answer = await asked(rig, served, finished, "a", options={"log": {"activated_rails": True}})
    assert answer.json()["guardrails"] == {"config_ids": ["plain"], "log": {"activated_rails": []}}


@pytest.mark.parametrize(
    ("payload", "status", "retry_after"),
    [
        (events.Failed(ERROR, status=502), 502, None),
        (events.Failed(ERROR, status=429, retryable=True, retry_after=7.2), 429, "8"),
        (events.Failed(ERROR, status=503, retryable=True, retry_after=0.1), 503, "1"),
        (events.Cancelled("request"), 499, None),
    ],
)
async def test_a_failure_has_its_own_status_and_envelope(
    rig: Rig, payload: events.Payload, status: int, retry_after: str | None
) -> None:
    served = await rig.serve()
    writer, answer = await asked(rig, served, payload, "some text")
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers.get("retry-after") == retry_after
    assert answer.headers["x-request-id"] == writer.id
    assert (await rig.http.get(f"{served.completions}/{writer.id}")).status_code == status


async def test_an_id_that_still_runs_is_202_with_its_status(rig: Rig) -> None:
    served = await rig.serve()
    async with served.ask():
        writer = await rig.next_job()
        answer = await rig.http.get(f"{served.completions}/{writer.id}")
        assert (answer.status_code, answer.headers["retry-after"]) == (202, "1")
        assert answer.json()["status"] == "queued"
        assert answer.json()["choices"] == []
        await writer.start()
        answer = await rig.http.get(f"{served.completions}/{writer.id}")
        assert (answer.status_code, answer.json()["status"]) == (202, "running")


async def test_an_answer_whose_events_are_gone_is_a_gap(rig: Rig) -> None:
    served = await rig.serve()
    writer, _ = await asked(rig, served, events.Finished(("stop",)), "a")
    await rig.redis.delete(keys.events(writer.id))
    answer = await rig.http.get(f"{served.completions}/{writer.id}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "gap")


async def test_checks_are_a_job_of_their_own_and_answer_their_result(rig: Rig) -> None:
    served = await rig.serve()
    body = {"messages": QUESTION["messages"], "guardrails": {"config_id": "whole"}}
    posted = asyncio.create_task(rig.http.post(f"{served.api}/checks", json=body))
    writer = await (await rig.next_job()).start()
    assert (writer.job.kind, writer.job.stream, writer.job.configs) == ("checks", False, ("whole",))
    await writer.end(events.Finished((), result={"status": "blocked"}))
    answer = await posted
    assert answer.json() == {"status": "blocked"}
    assert (await rig.http.get(f"{served.completions}/{writer.id}")).json() == {"status": "blocked"}
    refused = await rig.http.post(f"{served.api}/checks", json=body | {"temperature": 1})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "temperature")


async def test_the_stream_of_a_request_that_did_not_stream_can_be_read_too(rig: Rig) -> None:
    served = await rig.serve()
    writer, _ = await asked(rig, served, events.Finished(("stop",), usage=USAGE), "a", "b")
    async with served.resume(writer.id) as stream:
        await stream.read()
    assert stream.text == "ab"
    assert stream.done


def test_every_terminal_event_is_an_ended_status() -> None:
    assert {name.decode() for name in events.TERMINAL} == ENDED
