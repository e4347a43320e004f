"""Both session stores, held to one contract: one in memory, one in a real Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from railstream import keys
from railstream.conversations import (
    MAIN,
    Entry,
    MemorySessions,
    RedisSessions,
    Sessions,
    prompt_of,
    session_of_thread,
)
from railstream.errors import BranchExistsError, BranchNotFoundError, InvalidRequestError, SessionNotFoundError
from redis.asyncio import Redis

Store = Callable[..., Sessions]


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemorySessions
    redis = request.getfixturevalue("redis")
    return lambda **given: RedisSessions(redis, **given)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str, request: str, **given: Any) -> Entry:
    return Entry({"role": "assistant", "content": text}, time.time(), request, **given)


async def turn(
    store: Sessions, session: str, request: str, said: str, branch: str = MAIN, over: str = "", **given: Any
) -> None:
    assert await store.begin_turn(session, "t", branch, request, [user(f"{said}?")], over=over) == ""
    assert await store.end_turn(session, branch, request, 1, answer(f"{said}!", request, **given))


async def texts(store: Sessions, session: str, branch: str = MAIN) -> list[str]:
    return [entry.message["content"] for entry in await store.messages(session, "t", branch)]


async def test_a_turn_is_the_question_at_once_and_the_answer_at_its_end(store: Store) -> None:
    sessions = store()
    session = (await sessions.create("t", name="first")).id
    assert await sessions.begin_turn(session, "t", MAIN, "r1", [user("a"), user("b")]) == ""
    assert await texts(sessions, session) == ["a", "b"]
    assert await sessions.history(session, MAIN, "r1") == []
    assert await sessions.end_turn(session, MAIN, "r1", 1, answer("c", "r1", finish_reason="stop"))
    assert await sessions.begin_turn(session, "t", MAIN, "r2", [user("d")], over="r1") == ""
    assert [entry.message["content"] for entry in await sessions.history(session, MAIN, "r2")] == ["a", "b", "c"]
    entries = await sessions.messages(session, "t", MAIN)
    assert (entries[2].finish_reason, entries[2].request) == ("stop", "r1")
    assert len({entry.id for entry in entries}) == 4


async def test_the_messages_of_a_turn_are_rewritten_by_its_writer_alone(store: Store) -> None:
    sessions = store()
    session = (await sessions.create("t")).id
    await turn(sessions, session, "r1", "a")
    assert await sessions.begin_turn(session, "t", MAIN, "r2", [user("b"), user("c")], over="r1") == ""
    await sessions.create_branch(session, "t", "other", origin=MAIN)
    assert await sessions.rewrite_turn(session, MAIN, "r2", {1: user("***"), 7: user("nowhere")})
    assert not await sessions.rewrite_turn(session, MAIN, "r1", {0: user("too late")})
    assert not await sessions.rewrite_turn(session, "none", "r2", {0: user("nowhere")})
    assert await texts(sessions, session) == ["a?", "a!", "b", "***"]
    assert await texts(sessions, session, "other") == ["a?", "a!", "b", "***"]
    assert await sessions.end_turn(session, MAIN, "r2", 1, answer("d", "r2"))
    assert await texts(sessions, session) == ["a?", "a!", "b", "***", "d"]


async def test_a_branch_has_one_writer_until_that_has_ended(store: Store) -> None:
    sessions = store()
    session = (await sessions.create("t")).id
    assert await sessions.begin_turn(session, "t", MAIN, "r1", [user("a")]) == ""
    assert await sessions.begin_turn(session, "t", MAIN, "r2", [user("b")]) == "r1"
    assert await sessions.begin_turn(session, "t", MAIN, "r1", [user("a")]) == "", "the same request again"
    assert await texts(sessions, session) == ["a"]
    assert await sessions.begin_turn(session, "t", MAIN, "r2", [user("b")], over="r1") == ""
    assert not await sessions.end_turn(session, MAIN, "r1", 1, answer("late", "r1"))
    assert await texts(sessions, session) == ["a", "b"]


async def test_a_later_attempt_puts_its_answer_in_the_place_of_an_earlier_one(store: Store) -> None:
    sessions = store()
    session = (await sessions.create("t")).id
    await sessions.begin_turn(session, "t", MAIN, "r1", [user("a")])
    assert await sessions.end_turn(session, MAIN, "r1", 1, answer("half", "r1", partial=True))
    assert await sessions.end_turn(session, MAIN, "r1", 2, answer("whole", "r1"))
    assert not await sessions.end_turn(session, MAIN, "r1", 1, answer("stale", "r1"))
    assert await texts(sessions, session) == ["a", "whole"]


async def test_an_abandoned_turn_was_never_begun(store: Store) -> None:
    sessions = store()
    session = (await sessions.create("t")).id
    await turn(sessions, session, "r1", "a")
    await sessions.begin_turn(session, "t", MAIN, "r2", [user("b")], over="r1")
    await sessions.abandon_turn(session, MAIN, "r2")
    assert await texts(sessions, session) == ["a?", "a!"]
    assert await sessions.begin_turn(session, "t", MAIN, "r3", [user("c")]) == ""


async def test_a_fork_at_a_message_shares_what_was_before_and_nothing_after(store: Store) -> None:
    sessions = store()
    session = (await sessions.create("t")).id
    await turn(sessions, session, "r1", "a")
    await turn(sessions, session, "r2", "b", over="r1")
    at = (await sessions.messages(session, "t", MAIN))[1].id
    fork = await sessions.create_branch(session, "t", "other", origin=MAIN, at=at)
    assert (fork.origin, fork.at, fork.messages) == (MAIN, at, 2)
    await turn(sessions, session, "r3", "c", branch="other")
    await turn(sessions, session, "r4", "d", over="r2")
    assert await texts(sessions, session, "other") == ["a?", "a!", "c?", "c!"]
    assert await texts(sessions, session) == ["a?", "a!", "b?", "b!", "d?", "d!"]
    with pytest.raises(InvalidRequestError, match="'m99' is not on branch 'main'"):
        await sessions.create_branch(session, "t", "third", origin=MAIN, at="m99")


async def test_branches_are_named_once_renamed_with_their_lineage_and_deleted(store: Store) -> None:
    sessions = store()
    session = (await sessions.create("t")).id
    await turn(sessions, session, "r1", "a")
    await sessions.create_branch(session, "t", "fork", origin=MAIN)
    await turn(sessions, session, "r2", "b", branch="fork")
    with pytest.raises(BranchExistsError):
        await sessions.create_branch(session, "t", "fork")
    with pytest.raises(InvalidRequestError, match="not a branch name"):
        await sessions.create_branch(session, "t", "a b")
    assert await sessions.rename_branch(session, "t", MAIN, "trunk") == "r1"
    assert await sessions.rename_branch(session, "t", MAIN, "trunk", over="r1") == ""
    by_name = {branch.name: branch for branch in (await sessions.read(session, "t")).branches}
    assert (set(by_name), by_name["fork"].origin) == ({"trunk", "fork"}, "trunk")
    await sessions.delete_branch(session, "t", "trunk")
    assert await texts(sessions, session, "fork") == ["a?", "a!", "b?", "b!"]
    with pytest.raises(BranchNotFoundError):
        await sessions.messages(session, "t", "trunk")


async def test_what_is_somebody_elses_is_not_there(store: Store) -> None:
    sessions = store()
    session = (await sessions.create("t", name="mine", metadata={"k": "v"})).id
    for call in (
        sessions.read(session, "u"),
        sessions.messages(session, "u", MAIN),
        sessions.delete(session, "u"),
        sessions.change(session, "u", name="x"),
        sessions.begin_turn(session, "u", MAIN, "r", [user("a")]),
        sessions.read("sess-" + "0" * 32, "t"),
    ):
        with pytest.raises(SessionNotFoundError):
            await call
    assert [found.id for found in await sessions.listed("t", 10)] == [session]
    assert await sessions.listed("u", 10) == []
    changed = await sessions.change(session, "t", name="renamed")
    assert (changed.name, changed.metadata) == ("renamed", {"k": "v"})
    await sessions.delete(session, "t")
    with pytest.raises(SessionNotFoundError):
        await sessions.read(session, "t")
    assert await sessions.listed("t", 10) == []


async def test_a_branch_forgets_its_oldest_messages_first(store: Store) -> None:
    sessions = store(most=4)
    session = (await sessions.create("t")).id
    for number in range(4):
        await turn(sessions, session, f"r{number}", str(number), over=f"r{number - 1}")
    assert (await texts(sessions, session))[-2:] == ["3?", "3!"]
    assert len(await texts(sessions, session)) <= 5


async def test_a_thread_is_made_by_its_first_turn(store: Store) -> None:
    sessions = store()
    session = session_of_thread("ab" * 32)
    with pytest.raises(SessionNotFoundError):
        await sessions.begin_turn(session, "t", MAIN, "r1", [user("a")])
    assert await sessions.begin_turn(session, "t", MAIN, "r1", [user("a")], create=True) == ""
    assert await texts(sessions, session) == ["a"]


async def test_a_blocked_turn_is_listed_and_shown_to_no_model(store: Store) -> None:
    sessions = store()
    session = (await sessions.create("t")).id
    await turn(sessions, session, "r1", "fine")
    await turn(sessions, session, "r2", "bad", over="r1", withheld=True)
    await sessions.begin_turn(session, "t", MAIN, "r3", [user("next")], over="r2")
    assert len(await texts(sessions, session)) == 5
    assert [message["content"] for message in prompt_of(await sessions.history(session, MAIN, "r3"))] == [
        "fine?",
        "fine!",
    ]


def asked(operation: str, text: str = "", request: str = "f") -> Entry:
    return Entry(user(text or f"{operation}?"), time.time(), request, operation=operation)


async def flow_on(store: Store, **given: Any) -> tuple[Sessions, str]:
    """A session whose main branch has one turn, and a flow that writes on it."""
    sessions = store(**given)
    session = (await sessions.create("t")).id
    await turn(sessions, session, "r1", "a")
    assert await sessions.begin_turn(session, "t", MAIN, "f", [], over="r1") == ""
    return sessions, session


async def test_the_operations_of_a_flow_take_turns_on_the_branch_that_it_holds(store: Store) -> None:
    sessions, session = await flow_on(store)
    assert await sessions.begin_turn(session, "t", MAIN, "r2", [user("b")]) == "f"
    assert await sessions.begin_operation(session, MAIN, 1, asked("one"))
    assert await texts(sessions, session) == ["a?", "a!", "one?"]
    assert await sessions.end_turn(session, MAIN, "f", 1, answer("one!", "f", operation="one"))
    assert await sessions.begin_operation(session, MAIN, 1, asked("two"))
    before = [entry.message["content"] for entry in await sessions.history(session, MAIN, "f", "two")]
    assert before == ["a?", "a!", "one?", "one!"]
    usage = {"total_tokens": 3}
    assert await sessions.end_turn(session, MAIN, "f", 1, answer("two!", "f", operation="two", usage=usage))
    assert await texts(sessions, session) == ["a?", "a!", "one?", "one!", "two?", "two!"]
    last = (await sessions.messages(session, "t", MAIN))[-1]
    assert (last.request, last.operation, last.usage) == ("f", "two", usage)
    assert await sessions.begin_turn(session, "t", MAIN, "r2", [user("b")], over="f") == ""
    assert not await sessions.begin_operation(session, MAIN, 1, asked("late"))
    assert not await sessions.end_turn(session, MAIN, "f", 2, answer("late", "f", operation="two"))
    assert (await texts(sessions, session))[-2:] == ["two!", "b"]
    assert len(await sessions.history(session, MAIN, "r2")) == 6


async def test_a_later_attempt_of_a_flow_doubles_no_turn_and_shuts_the_earlier_one_out(store: Store) -> None:
    sessions, session = await flow_on(store)
    for operation in ("one", "two", "three"):
        await sessions.begin_operation(session, MAIN, 1, asked(operation))
        await sessions.end_turn(session, MAIN, "f", 1, answer(f"{operation}!", "f", operation=operation))
    await sessions.resume_operations(session, MAIN, "f", 2, ["one", "two"])
    assert await texts(sessions, session) == ["a?", "a!", "one?", "one!", "two?", "two!"]
    assert not await sessions.begin_operation(session, MAIN, 1, asked("three"))
    assert not await sessions.end_turn(session, MAIN, "f", 1, answer("stale", "f", operation="two"))
    assert await sessions.begin_operation(session, MAIN, 2, asked("two", "two again?"))
    before = [entry.message["content"] for entry in await sessions.history(session, MAIN, "f", "two")]
    assert before == ["a?", "a!", "one?", "one!"]
    assert await sessions.end_turn(session, MAIN, "f", 2, answer("two again!", "f", operation="two"))
    assert await texts(sessions, session) == ["a?", "a!", "one?", "one!", "two again?", "two again!"]
    await sessions.resume_operations(session, MAIN, "f", 1, [])
    assert len(await texts(sessions, session)) == 6


async def test_a_flow_that_is_not_queued_lets_go_of_its_branch_and_one_on_no_branch_is_told(store: Store) -> None:
    sessions, session = await flow_on(store)
    await sessions.abandon_turn(session, MAIN, "f")
    assert await sessions.begin_turn(session, "t", MAIN, "r2", [user("b")]) == ""
    assert await texts(sessions, session) == ["a?", "a!", "b"]
    await sessions.delete_branch(session, "t", MAIN)
    with pytest.raises(BranchNotFoundError):
        await sessions.begin_operation(session, MAIN, 1, asked("one"))


async def test_a_blocked_operation_is_shown_to_no_model_and_the_others_of_its_flow_are(store: Store) -> None:
    sessions, session = await flow_on(store)
    for operation, withheld in (("bad", True), ("fine", False)):
        await sessions.begin_operation(session, MAIN, 1, asked(operation))
        ended = answer(f"{operation}!", "f", operation=operation, withheld=withheld)
        await sessions.end_turn(session, MAIN, "f", 1, ended)
    shown = prompt_of(await sessions.messages(session, "t", MAIN))
    assert [message["content"] for message in shown] == ["a?", "a!", "fine?", "fine!"]


async def test_a_flow_on_a_full_branch_forgets_the_oldest_messages_first(store: Store) -> None:
    sessions, session = await flow_on(store, most=4)
    for operation in ("one", "two"):
        await sessions.begin_operation(session, MAIN, 1, asked(operation))
        await sessions.end_turn(session, MAIN, "f", 1, answer(f"{operation}!", "f", operation=operation))
    assert (await texts(sessions, session))[-4:] == ["one?", "one!", "two?", "two!"]
    assert len(await texts(sessions, session)) <= 5


async def test_a_thousand_branches_cost_ids_and_not_messages(redis: Redis) -> None:
    sessions = RedisSessions(redis)
    session = (await sessions.create("t")).id
    await sessions.begin_turn(session, "t", MAIN, "r1", [user("x" * 10_000) for _ in range(10)])
    before = await used(redis, session)
    for number in range(1000):
        await sessions.create_branch(session, "t", f"fork-{number}", origin=MAIN)
    assert await redis.hlen(keys.session_messages(session)) == 10
    assert await used(redis, session) - before < 1000 * 500
    for number in range(1000):
        await sessions.delete_branch(session, "t", f"fork-{number}")
    await sessions.delete_branch(session, "t", MAIN)
    assert await redis.hlen(keys.session_messages(session)) == 0


async def used(redis: Redis, session: str) -> int:
    return sum([int(await redis.memory_usage(key, samples=0) or 0) for key in keys.of_session(session)])


async def test_every_key_of_a_session_expires_and_is_of_one_slot(redis: Redis) -> None:
    sessions = RedisSessions(redis, age=100)
    session = (await sessions.create("t")).id
    await turn(sessions, session, "r1", "a")
    found = keys.of_session(session)
    assert [0 < await redis.ttl(key) <= 100 for key in found] == [True] * 4
    assert {key.partition("{")[2].partition("}")[0] for key in found} == {session[-2:]}
