"""`railstream ps`, `show`, `cancel` and `workers` against a real stack with API keys: an operator has Redis alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from harness.commands import railstream
from harness.stack import Stack
from harness.waiting import until
from railstream.ids import new_request_id
from railstream.testing import Script

StartStack = Callable[..., Awaitable[Stack]]
SECRET = "tangerine"
PROMPT = f"Say {SECRET}."


async def test_an_operator_lists_shows_and_cancels_the_requests_of_every_key(start_stack: StartStack) -> None:
    script = Script(text=f"one two three {SECRET} five", hold=4)
    stack = await start_stack(
        script=script,
        concurrency=1,
        environment={"RAILSTREAM_API_KEYS": "key-1", "RAILSTREAM_KEEP_ALIVE": "0.3"},
    )
    headers = {"authorization": "Bearer key-1"}
    async with stack.ask(PROMPT, headers=headers) as first, stack.ask(PROMPT, headers=headers) as second:
        running_id, waiting_id = first.request_id, second.request_id
        await stack.upstream.ledger.wait(until=lambda _: stack.upstream.held == 1)
        listed = (await railstream("ps", "--json", redis_url=stack.redis_url)).json
        assert [(one["id"], one["status"]) for one in listed["requests"]] == [
            (running_id, "running"),
            (waiting_id, "queued"),
        ]
        running = listed["requests"][0]
        assert running["attempt"] == 1
        assert running["deliveries"] == 1
        assert running["tenant"] != ""
        assert running["owner"] != ""

        found = (await railstream("workers", "--json", redis_url=stack.redis_url)).json
        assert found["pools"] == [{"name": "", "waiting": 1, "running": 1, "workers": 1}]
        (worker,) = found["workers"]
        assert (worker["name"], worker["alive"], worker["running"], worker["slots"]) == (running["owner"], True, 1, 1)

        table = await railstream("ps", redis_url=stack.redis_url)
        assert running_id in table.out
        assert "running" in table.out

        done = (await railstream("cancel", waiting_id, running_id, "--json", redis_url=stack.redis_url)).json
        assert [(one["id"], one["outcome"]) for one in done] == [
            (waiting_id, "cancelled"),
            (running_id, "cancelling"),
        ]
        await first.body()
        await second.body()
        assert (await railstream("ps", "--json", redis_url=stack.redis_url)).json == {"total": 0, "requests": []}
    for request_id in (running_id, waiting_id):
        shown = await railstream("show", request_id, "--json", redis_url=stack.redis_url)
        assert shown.json["status"] == "cancelled"
        assert shown.json["end"]["reason"] == "request"
        assert SECRET not in shown.out
    again = await railstream("cancel", running_id, redis_url=stack.redis_url)
    assert again.out == f"{running_id}: it had ended already: cancelled\n"
    every = (await railstream("ps", "--all", "--json", redis_url=stack.redis_url)).json
    assert {one["id"] for one in every["requests"]} == {running_id, waiting_id}


async def test_show_tells_attempts_usage_and_end_and_the_text_only_where_it_is_wanted(start_stack: StartStack) -> None:
    stack = await start_stack(script=Script(text=f"The word is {SECRET}."))
    async with stack.ask(PROMPT) as stream:
        await stream.body()
        request_id = stream.request_id
    plain = await railstream("show", request_id, "--json", redis_url=stack.redis_url)
    shown = plain.json
    assert shown["status"] == "finished"
    assert [one["reason"] for one in shown["attempts"]] == ["started"]
    assert [one["output_tokens"] for one in shown["calls"]] == [4]
    assert shown["end"]["finish_reasons"] == ["stop"]
    assert shown["created"] <= shown["started"] <= shown["ended"]
    assert shown["kept_for"] > 0
    assert shown["dead_letter"] is None
    assert SECRET not in plain.out
    assert SECRET not in (await railstream("show", request_id, redis_url=stack.redis_url)).out
    with_text = await railstream("show", request_id, "--content", "--json", redis_url=stack.redis_url)
    assert with_text.json["texts"] == {"0": f"The word is {SECRET}."}


async def test_an_id_that_redis_does_not_know_is_one_line_and_exit_code_1(redis_url: str) -> None:
    unknown = new_request_id()
    for command in ("show", "cancel"):
        said = await railstream(command, unknown, redis_url=redis_url)
        assert (said.code, said.out) == (1, "")
        assert said.err == (
            f"railstream: there is no request {unknown!r} in this Redis, or it has expired; "
            "`railstream ps --all` lists what is kept\n"
        )
        wrong = await railstream(command, "42", redis_url=redis_url)
        assert (wrong.code, wrong.out) == (2, "")
        assert wrong.err.startswith("railstream: '42' is no request id")
        assert wrong.err.count("\n") == 1


async def test_a_worker_that_was_killed_is_shown_as_lost_and_a_pool_without_workers_is_named(
    start_stack: StartStack, redis_url: str
) -> None:
    stack = await start_stack()
    assert (await railstream("workers", "--json", redis_url=redis_url)).json["workers"][0]["alive"]
    await stack.workers[0].kill()

    async def is_lost() -> bool:
        found = (await railstream("workers", "--json", redis_url=redis_url)).json
        return [one["alive"] for one in found["workers"]] == [False]

    await until(is_lost, timeout=30)
    said = await railstream("workers", redis_url=redis_url)
    assert "no worker serves pool '(default)': start one with `railstream worker`" in said.err
