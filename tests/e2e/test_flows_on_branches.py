"""Flows on the branches of a session: each operation is a turn there, once, whoever dies meanwhile."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from harness.sse import fetch, opened
from harness.stack import MODEL, Stack, surviving
from harness.waiting import until
from railstream import keys
from railstream.testing import Script, directive
from railstream.usage import read, today
from redis.asyncio import Redis

QUICK = {"RAILSTREAM_LEASE": "2", "RAILSTREAM_SCAN": "0.2"}
CONFIGS: dict[str, Any] = {
    "main": {},
    "guarded": {
        "rails": {
            "output": {"flows": ["regex check output"], "streaming": {"enabled": True}},
            "config": {"regex_detection": {"output": {"patterns": ["forbidden"]}}},
        },
    },
}
Said = list[tuple[str, str, str]]
"""Operation, role, and the first words of a message."""


@pytest.fixture
async def stack(start_stack: Any) -> Stack:
    made: Stack = await start_stack(gateways=2, configs=surviving(CONFIGS), script=Script(words=3), environment=QUICK)
    return made


async def made(stack: Stack, *branches: str) -> str:
    _, session = await fetch(f"{stack.url}/v1/sessions", body={})
    for name in branches:
        await fetch(f"{stack.url}/v1/sessions/{session['id']}/branches", body={"name": name})
    return str(session["id"])


async def listed(stack: Stack, session: str, branch: str = "main", gateway: int = 0) -> list[dict[str, Any]]:
    _, found = await fetch(f"{stack.gateways[gateway].api}/sessions/{session}/branches/{branch}/messages")
    messages: list[dict[str, Any]] = found["data"]
    return messages


async def said(stack: Stack, session: str, branch: str = "main") -> Said:
    messages = await listed(stack, session, branch)
    return [(entry.get("operation", ""), entry["role"], entry["content"].partition(" @")[0]) for entry in messages]


def operation(id: str, branch: str = "main", text: str = "", **given: Any) -> dict[str, Any]:
    script = given.pop("script", {})
    instruction = f"Do {id}. {directive(text=text or f'{id} is done', **script)}"
    return {"id": id, "instruction": instruction, "branch": branch, "model": MODEL, "config_id": "main"} | given


async def mid_answer(stack: Stack, redis: Redis, request_id: str, *names: str) -> None:
    """Wait until each of these has said two words, which stand in the stream, and waits for the third."""

    async def waiting() -> bool:
        entries = await redis.xrange(keys.events(request_id))
        said = Counter(json.loads(fields[b"choice"])["operation"] for _, fields in entries if b"choice" in fields)
        return stack.upstream.held == len(names) and all(said[name] == 2 for name in names)

    await until(waiting, what=f"{', '.join(names)} wait in mid-answer")


def flow(session: str, *operations: dict[str, Any], **given: Any) -> dict[str, Any]:
    return {"operations": operations, "railstream": {"session": session}} | given


def chat(session: str, text: str, branch: str = "main") -> dict[str, Any]:
    place = {"railstream": {"session": session, "branch": branch}, "guardrails": {"config_id": "main"}}
    return {"messages": [{"role": "user", "content": text}], "model": MODEL} | place


async def test_operations_go_on_where_their_branch_stands_and_their_turns_are_kept(stack: Stack) -> None:
    session = await made(stack, "side")
    await fetch(f"{stack.url}/v1/chat/completions", body=chat(session, f"First. {directive(text='hello')}"))
    body = flow(session, operation("one"), operation("two", context_from=["one"]), operation("three", "side"))
    status, ended = await fetch(f"{stack.url}/v1/flows", body=body)
    assert (status, [entry["status"] for entry in ended["operations"]]) == (200, ["finished"] * 3)
    own = [("one", "user", "Do one."), ("one", "assistant", "one is done")]
    own += [("two", "user", "[one]\none is done\n\nDo two."), ("two", "assistant", "two is done")]
    assert await said(stack, session) == [("", "user", "First."), ("", "assistant", "hello"), *own]
    assert await said(stack, session, "side") == [
        ("three", "user", "Do three."),
        ("three", "assistant", "three is done"),
    ]
    prompts = {entry.body["messages"][-1]["content"].partition(" @")[0]: entry.body for entry in stack.upstream.ledger}
    assert [message["role"] for message in prompts["Do one."]["messages"]] == ["user", "assistant", "user"]
    assert len(prompts["[one]\none is done\n\nDo two."]["messages"]) == 5
    await fetch(f"{stack.gateways[1].api}/chat/completions", body=chat(session, "Next."))
    assert len(stack.upstream.ledger[-1].body["messages"]) == 7
    answers = [entry for entry in await listed(stack, session, gateway=1) if entry["role"] == "assistant"]
    assert [entry["usage"]["completion_tokens"] for entry in answers] == [1, 3, 3, 3]
    assert answers[1]["usage"] == ended["operations"][0]["usage"]


async def test_a_flow_is_the_one_writer_of_its_branches(stack: Stack) -> None:
    session = await made(stack, "side", "free")
    held = flow(session, operation("one", script={"hold": 1}), operation("two", "side"), stream=True)
    async with opened(f"{stack.url}/v1/flows", body=held) as stream:
        await until(lambda: stack.upstream.held == 1, what="one waits in mid-answer")
        assert (await said(stack, session))[0] == ("one", "user", "Do one.")
        for body, path, param in (
            (chat(session, "x", "side"), "chat/completions", "railstream.branch"),
            (flow(session, operation("free", "free"), operation("other")), "flows", "operations.other"),
        ):
            status, refused = await fetch(f"{stack.gateways[1].api}/{path}", body=body)
            assert (status, refused["error"]["code"], refused["error"]["param"]) == (409, "branch_busy", param)
        status, _ = await fetch(f"{stack.url}/v1/chat/completions", body=chat(session, "x", "free"))
        assert status == 200, "what was refused has let go of what it held"
        stack.upstream.release()
        await stream.read()
    status, _ = await fetch(f"{stack.url}/v1/chat/completions", body=chat(session, "x", "side"))
    assert status == 200


async def test_after_the_workers_death_every_turn_stands_once_and_every_call_is_accounted_for(
    stack: Stack, redis: Redis
) -> None:
    session = await made(stack, "side")
    hold = {"hold": 2, "times": 2}
    first, second = operation("one"), operation("two", text="a b c d", script=hold)
    operations = [first, second, operation("three"), operation("four", "side", "e f g h", script=hold)]
    headers = {"idempotency-key": "once"}
    async with opened(f"{stack.url}/v1/flows", body=flow(session, *operations, stream=True), headers=headers) as stream:
        await mid_answer(stack, redis, stream.request_id, "two", "four")
        await stack.workers[0].kill()
        await stack.add_worker(**QUICK).ready()
        await stream.read()
    assert stream.frames[-1].event == "finished"
    assert await said(stack, session) == [
        ("one", "user", "Do one."),
        ("one", "assistant", "one is done"),
        ("two", "user", "Do two."),
        ("two", "assistant", "a b c d"),
        ("three", "user", "Do three."),
        ("three", "assistant", "three is done"),
    ]
    assert await said(stack, session, "side") == [("four", "user", "Do four."), ("four", "assistant", "e f g h")]
    told = [frame.json for frame in stream.frames if frame.event == "usage"]
    lost = {usage["call"]: usage["chunks"] for usage in told if usage.get("outcome") == "lost"}
    assert lost == {"1.1.1": 2, "1.3.1": 2}
    assert len(told) == len(stack.upstream.ledger) == 6, "each call of the upstream is one record"
    totals = await read(redis, [today()])
    assert sum(total.calls for total in totals.values()) == 6
    assert sum(total.incomplete for total in totals.values()) == 2


async def test_a_multi_model_call_that_died_with_its_worker_is_recorded_too(stack: Stack, redis: Redis) -> None:
    body = {"railstream": {"models": [MODEL]}, "model": None}
    async with stack.ask(directive(text="a b c d", hold=2, times=1), **body) as stream:
        await mid_answer(stack, redis, stream.request_id, MODEL)
        await stack.workers[0].kill()
        await stack.add_worker(**QUICK).ready()
        await stream.read()
    async with opened(f"{stack.url}/v1/chat/completions/{stream.request_id}/events") as events:
        told = [frame.json for frame in await events.read() if frame.event == "usage"]
    assert [(usage["call"], usage.get("outcome", "finished")) for usage in told] == [
        ("1.0.1", "lost"),
        ("2.0.1", "finished"),
    ]
    assert len(stack.upstream.ledger) == 2


async def test_a_cancelled_flow_keeps_what_was_said_and_marks_it(stack: Stack, redis: Redis) -> None:
    session = await made(stack)
    body = flow(session, operation("one"), operation("two", text="a b c d", script={"hold": 2}), operation("three"))
    async with opened(f"{stack.url}/v1/flows", body=body | {"stream": True}) as stream:
        await mid_answer(stack, redis, stream.request_id, "two")
        await fetch(f"{stack.url}/v1/flows/{stream.request_id}/cancel", body={})
        await stream.read()
    messages = await listed(stack, session)
    assert [entry["operation"] for entry in messages] == ["one", "one", "two", "two"]
    assert (messages[1]["partial"], messages[1]["finish_reason"]) == (False, "stop")
    assert (messages[3]["content"], messages[3]["partial"], messages[3]["finish_reason"]) == ("a b", True, "cancelled")
    assert messages[3]["usage"] is None


async def test_a_flow_that_is_cancelled_between_two_workers_is_accounted_for_and_its_turns_are_kept(
    stack: Stack, redis: Redis
) -> None:
    session = await made(stack, "side")
    script = {"hold": 2, "times": 2}
    operations = [operation("one", script=script, text="a b c d"), operation("two", "side", "e f g h", script=script)]
    headers = {"x-railstream-on-disconnect": "continue"}
    body = flow(session, *operations, stream=True)
    async with opened(f"{stack.url}/v1/flows", body=body, headers=headers) as stream:
        await mid_answer(stack, redis, stream.request_id, "one", "two")
        await stack.workers[0].kill()
        await fetch(f"{stack.gateways[1].api}/flows/{stream.request_id}/cancel", body={})
        await stack.add_worker(**QUICK).ready()
        await stream.read()
    assert stream.frames[-1].event == "cancelled"
    told = [frame.json for frame in stream.frames if frame.event == "usage"]
    assert [(usage["call"], usage["outcome"]) for usage in told] == [("1.0.1", "lost"), ("1.1.1", "lost")]
    for branch, text in (("main", "a b"), ("side", "e f")):
        question, answer = await listed(stack, session, branch)
        assert (answer["content"], answer["partial"], answer["finish_reason"]) == (text, True, "cancelled")
        assert question["request_id"] == answer["request_id"] == stream.request_id
    status, _ = await fetch(f"{stack.url}/v1/chat/completions", body=chat(session, "Next."))
    assert status == 200, "the branch is free"


async def test_a_failed_and_a_blocked_operation_are_turns_too(stack: Stack) -> None:
    session = await made(stack)
    operations = [
        operation("cut", text="a b c d", script={"fault": "reset", "at": 2, "rate": 50}),
        operation("bad", text="this is forbidden", config_id="guarded"),
        operation("last"),
    ]
    await fetch(f"{stack.url}/v1/flows", body=flow(session, *operations))
    messages = await listed(stack, session)
    ends = [(entry["operation"], entry["finish_reason"], entry["partial"]) for entry in messages[1::2]]
    assert ends == [("cut", "failed", True), ("bad", "blocked", True), ("last", "stop", False)]
    prompt = [message["content"] for message in stack.upstream.ledger[-1].body["messages"]]
    assert [text.partition(" @")[0] for text in prompt] == ["Do cut.", "a b", "Do last."]


@pytest.mark.parametrize(
    ("place", "branch", "status", "code", "param"),
    [
        ({"session": "sess-" + "0" * 32}, "main", 404, "session_not_found", "session"),
        ({}, "nowhere", 404, "branch_not_found", "operations.one"),
        ({}, None, 400, "invalid_request", "railstream"),
        ({"branch": "main"}, "main", 400, "unknown_option", "railstream.branch"),
    ],
)
async def test_a_place_that_is_not_there_is_refused_before_anything_is_queued(
    stack: Stack, place: dict[str, str], branch: str | None, status: int, code: str, param: str
) -> None:
    session = await made(stack)
    body = {"operations": [operation("one", branch=branch)], "railstream": {"session": session} | place}  # type: ignore[arg-type]
    found, refused = await fetch(f"{stack.url}/v1/flows", body=body)
    assert (found, refused["error"]["code"], refused["error"]["param"]) == (status, code, param)
    assert len(stack.upstream.ledger) == 0
