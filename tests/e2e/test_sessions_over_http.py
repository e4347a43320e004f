"""Conversations over HTTP: forks, histories, one writer on a branch, and answers that were cut."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from harness.sse import fetch
from harness.stack import Stack, surviving
from harness.waiting import until
from railstream.testing import Script, directive

QUICK = {"RAILSTREAM_LEASE": "2", "RAILSTREAM_SCAN": "0.2"}
CONFIGS: dict[str, Any] = {
    "plain": {},
    "guarded": {
        "rails": {
            "input": {"flows": ["regex check input"]},
            "config": {"regex_detection": {"input": {"patterns": ["forbidden"]}}},
        }
    },
}


@pytest.fixture
async def stack(start_stack: Any) -> Stack:
    made: Stack = await start_stack(gateways=2, configs=surviving(CONFIGS), script=Script(words=3), environment=QUICK)
    return made


async def call(stack: Stack, method: str, path: str, body: Any = None, gateway: int = 0) -> tuple[int, Any]:
    async with httpx2.AsyncClient() as client:
        answer = await client.request(method, f"{stack.gateways[gateway].api}/sessions{path}", json=body)
        return answer.status_code, answer.json()


async def made(stack: Stack, **given: Any) -> str:
    status, session = await call(stack, "POST", "", given)
    assert status == 200
    return str(session["id"])


def on(session: str, branch: str = "main", config: str = "plain") -> dict[str, Any]:
    return {"railstream": {"session": session, "branch": branch}, "guardrails": {"config_id": config}}


async def say(stack: Stack, said: str, session: str, branch: str = "main", **given: Any) -> str:
    """One streamed turn; the id of the request."""
    async with stack.ask(said, **on(session, branch, **given)) as stream:
        await stream.read()
        return str(stream.request_id)


async def history(stack: Stack, session: str, branch: str = "main") -> list[tuple[str, str]]:
    status, found = await call(stack, "GET", f"/{session}/branches/{branch}/messages")
    assert status == 200, found
    return [(message["role"], message["content"]) for message in found["data"]]


def answering(text: str) -> str:
    return directive(text=text)


async def test_a_fork_at_a_message_goes_its_own_way_on_either_gateway(stack: Stack) -> None:
    session = await made(stack, name="trip", metadata={"for": "test"})
    await say(stack, answering("one"), session)
    await say(stack, answering("two"), session)
    _, listed = await call(stack, "GET", f"/{session}/branches/main/messages", gateway=1)
    at = listed["data"][1]["id"]
    status, branch = await call(stack, "POST", f"/{session}/branches", {"name": "b", "from": "main", "at": at}, 1)
    assert (status, branch["from"], branch["at"], branch["messages"]) == (200, "main", at, 2)
    await say(stack, answering("three"), session, "b")
    await say(stack, answering("four"), session)
    assert [text for role, text in await history(stack, session) if role == "assistant"] == ["one", "two", "four"]
    assert [text for role, text in await history(stack, session, "b") if role == "assistant"] == ["one", "three"]
    seen = [
        [message["content"] for message in entry.body["messages"] if message["role"] == "assistant"]
        for entry in stack.upstream.ledger
    ]
    assert seen == [[], ["one"], ["one"], ["one", "two"]]


async def test_the_question_stands_at_once_and_a_second_writer_gets_409(stack: Stack) -> None:
    session = await made(stack)
    held = directive(text="a b c d", hold=2)
    async with stack.ask(held, **on(session)) as stream:
        await stream.read(frames=3)
        assert await history(stack, session) == [("user", held)]
        body = {"messages": [{"role": "user", "content": "me too"}], **on(session)}
        status, refused = await fetch(f"{stack.gateways[1].api}/chat/completions", body=body)
        assert (status, refused["error"]["code"]) == (409, "branch_busy")
        await call(stack, "POST", f"/{session}/branches", {"name": "side"})
        await say(stack, answering("meanwhile"), session, "side")
        stack.upstream.release()
        await stream.read()
    assert await history(stack, session) == [("user", held), ("assistant", "a b c d")]
    await say(stack, answering("now"), session)
    assert (await history(stack, session))[-1] == ("assistant", "now")


@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_a_cut_answer_is_kept_and_marked(stack: Stack, how: str) -> None:
    session = await made(stack)
    fault = {"fault": "reset", "at": 2} if how == "failed" else {"hold": 2}
    async with stack.ask(directive(text="a b c d", rate=50, **fault), **on(session)) as stream:
        await stream.read(frames=3)
        if how == "cancelled":
            await stack.cancel(stream.request_id)
        await stream.read()
    _, found = await call(stack, "GET", f"/{session}/branches/main/messages")
    answer = found["data"][-1]
    assert (answer["content"], answer["partial"], answer["finish_reason"]) == ("a b", True, how)
    assert answer["request_id"] == found["data"][0]["request_id"]


async def test_a_client_that_leaves_frees_the_branch(stack: Stack) -> None:
    session = await made(stack)
    async with stack.ask(directive(words=50, hold=2), **on(session)) as stream:
        await stream.read(frames=3)
        stream.reset()

    async def next_turn() -> bool:
        body = {"messages": [{"role": "user", "content": answering("next")}], **on(session)}
        return (await fetch(f"{stack.gateways[1].api}/chat/completions", body=body))[0] == 200

    await until(next_turn, what="the branch is free")
    assert (await history(stack, session))[-1] == ("assistant", "next")


async def test_an_answer_that_a_second_worker_ends_is_kept_once_and_whole(stack: Stack) -> None:
    session = await made(stack)
    async with stack.ask(directive(text="a b c d", hold=2, times=1), **on(session)) as stream:
        await until(lambda: stack.upstream.held == 1, what="the answer waits")
        await stack.workers[0].kill()
        await stack.add_worker(**QUICK).ready()
        await stream.read()
    roles = [role for role, _ in await history(stack, session)]
    assert roles == ["user", "assistant"]
    assert (await history(stack, session))[-1] == ("assistant", "a b c d")


async def test_a_repeated_request_is_one_turn(stack: Stack) -> None:
    session = await made(stack)
    for gateway in (0, 1):
        headers = {"Idempotency-Key": "once"}
        async with stack.ask(answering("one"), gateway=gateway, headers=headers, **on(session)) as stream:
            await stream.read()
    assert await history(stack, session) == [("user", answering("one")), ("assistant", "one")]
    assert len(stack.upstream.ledger) == 1


async def test_a_blocked_turn_is_listed_and_shown_to_no_model(stack: Stack) -> None:
    session = await made(stack)
    await say(stack, "this is forbidden", session, config="guarded")
    await say(stack, "fine", session, config="guarded")
    assert [role for role, _ in await history(stack, session)] == ["user", "assistant"] * 2
    assert [message["content"] for message in stack.upstream.ledger[-1].body["messages"]] == ["fine"]


async def test_sessions_are_listed_renamed_and_deleted(stack: Stack) -> None:
    first, second = await made(stack, name="first"), await made(stack, name="second")
    await say(stack, "hello", first)
    _, listed = await call(stack, "GET", "")
    assert [entry["id"] for entry in listed["data"]] == [first, second]
    _, renamed = await call(stack, "POST", f"/{first}", {"name": "renamed"})
    assert renamed["name"] == "renamed"
    _, branch = await call(stack, "POST", f"/{first}/branches/main", {"name": "trunk"})
    assert (branch["name"], branch["messages"]) == ("trunk", 2)
    assert (await call(stack, "DELETE", f"/{first}/branches/trunk"))[0] == 200
    assert (await call(stack, "DELETE", f"/{first}"))[1]["deleted"]
    status, gone = await call(stack, "GET", f"/{first}")
    assert (status, gone["error"]["code"]) == (404, "session_not_found")


@pytest.mark.parametrize(
    ("extras", "status", "code"),
    [
        ({"session": "sess-" + "0" * 32}, 404, "session_not_found"),
        ({"session": "../x"}, 404, "session_not_found"),
        ({"branch": "main"}, 400, "invalid_request"),
        ({"sesion": "x"}, 400, "unknown_option"),
    ],
)
async def test_a_wrong_place_is_refused_before_anything_is_queued(
    stack: Stack, extras: dict[str, str], status: int, code: str
) -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "railstream": extras, "guardrails": {"config_id": "plain"}}
    found, refused = await fetch(f"{stack.gateways[0].api}/chat/completions", body=body)
    assert (found, refused["error"]["code"]) == (status, code)
    assert len(stack.upstream.ledger) == 0
