"""The ledger: an event and its counts are one step, on a real Redis."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
import yaml
from railstream import keys, usage
from railstream.cli.usage import usage as show
from railstream.errors import RailstreamError
from railstream.events import Usage
from railstream.ids import new_request_id, partition_of
from railstream.usage import Account, Totals
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from typer.testing import CliRunner

DAY = "2026-11-20"
CALL = Usage(
    call="1.1",
    task="general",
    model="gpt-test",
    provider="openai",
    input_tokens=100,
    output_tokens=20,
    cached_input_tokens=64,
    reasoning_tokens=5,
)


async def record(redis: Redis, request_id: str, entry_id: str, call: Usage = CALL, **given: Any) -> Any:
    """Run the script as a worker does, through its digest."""
    entry = usage.entry(request_id, given.pop("tenant", "tenant-a"), call, **({"day": DAY} | given))
    assert await redis.script_load(usage.SCRIPT) == usage.SHA
    arguments = (keys.live(request_id), entry_id, *entry.args)
    return await redis.evalsha(usage.SHA, len(entry.keys), *entry.keys, *arguments)


async def begin(redis: Redis) -> str:
    request_id = new_request_id()
    await redis.xadd(keys.events(request_id), {"event": "started", "data": "{}"}, id="1-0")
    return request_id


async def test_a_call_is_an_event_in_its_stream_and_counts_of_its_day(redis: Redis) -> None:
    request_id = await begin(redis)

    assert await record(redis, request_id, "1-1") == 1
    _, (entry_id, fields) = await redis.xrange(keys.events(request_id))
    assert (entry_id, fields[b"event"]) == (b"1-1", b"usage")
    assert msgspec.json.decode(fields[b"data"], type=Usage) == CALL
    assert await usage.read(redis, [DAY]) == {
        Account("gpt-test", "tenant-a", "general"): Totals(input=100, output=20, cached=64, reasoning=5, calls=1)
    }


async def test_a_call_that_is_sent_twice_is_counted_once(redis: Redis) -> None:
    request_id = await begin(redis)

    assert [await record(redis, request_id, "1-1") for _ in range(3)] == [1, 0, 0]
    (totals,) = (await usage.read(redis, [DAY])).values()
    assert (totals.calls, totals.input) == (1, 100)


async def test_what_a_superseded_attempt_sends_is_not_counted(redis: Redis) -> None:
    request_id = await begin(redis)
    await redis.xadd(keys.events(request_id), {"event": "restarted", "data": "{}"}, id="2-0")

    assert await record(redis, request_id, "1-1") == 0
    assert await usage.read(redis, [DAY]) == {}


async def test_a_stream_that_is_gone_is_told_as_gone(redis: Redis) -> None:
    assert await record(redis, new_request_id(), "1-1") is None
    assert await usage.read(redis, [DAY]) == {}


async def test_another_error_of_redis_is_not_taken_for_the_fence(redis: Redis) -> None:
    request_id = new_request_id()
    await redis.set(keys.events(request_id), "not a stream")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await record(redis, request_id, "1-1")


async def test_readers_hear_the_event_as_it_is_written(redis: Redis) -> None:
    request_id = await begin(redis)
    async with redis.pubsub(ignore_subscribe_messages=True) as heard:
        await heard.subscribe(keys.live(request_id))
        await heard.get_message(timeout=5)
        await record(redis, request_id, "1-1")
        message = await heard.get_message(timeout=5)

    head, _, data = message["data"].partition(b"\n")
    assert head == b"1-1 usage 0"
    assert msgspec.json.decode(data, type=Usage) == CALL


async def test_totals_add_up_over_partitions_days_and_outcomes(redis: Redis) -> None:
    cut = msgspec.structs.replace(CALL, outcome="cancelled", complete=False, output_tokens=3)
    unknown = msgspec.structs.replace(CALL, input_tokens=None, output_tokens=None, complete=False)
    for day, call in ((DAY, CALL), (DAY, cut), ("2026-11-19", unknown), ("2026-10-01", CALL)):
        for _ in range(5):
            await record(redis, await begin(redis), "1-1", call, day=day)

    (totals,) = (await usage.read(redis, usage.days_until(DAY, 7))).values()
    assert (totals.calls, totals.incomplete, totals.input, totals.output) == (15, 10, 1000, 115)


async def test_names_with_separators_come_back_as_they_were(redis: Redis) -> None:
    call = msgspec.structs.replace(CALL, model="org/model:8b|q4 %7C", task="self check $model=judge")
    await record(redis, await begin(redis), "1-1", call, tenant="")

    assert list(await usage.read(redis, [DAY])) == [Account("org/model:8b|q4 %7C", "", "self check $model=judge")]


async def test_counts_expire_with_their_days(redis: Redis) -> None:
    request_id = await begin(redis)
    await record(redis, request_id, "1-1", keep_days=2)
    ledger = keys.usage(partition_of(request_id), DAY)
    first = await redis.ttl(ledger)
    await redis.expire(ledger, 60)
    await record(redis, request_id, "1-2", keep_days=2)

    assert 2 * 86400 - 60 < first <= 2 * 86400
    assert await redis.ttl(ledger) <= 60, "a later call does not keep an old day alive"


async def command(redis_url: str, *arguments: str) -> str:
    """What `railstream usage` prints. It runs a loop of its own, hence the thread."""
    app = typer.Typer()
    app.command()(show)
    done = await asyncio.to_thread(CliRunner().invoke, app, ["--redis-url", redis_url, *arguments])
    assert done.exit_code == 0, done.output
    return done.output


async def test_the_command_shows_who_used_what(redis: Redis, redis_url: str) -> None:
    judge = msgspec.structs.replace(CALL, model="judge", task="self_check_input", output_tokens=1)
    await record(redis, await begin(redis), "1-1", day=usage.today())
    await record(redis, await begin(redis), "1-1", judge, day=usage.today(), tenant="")

    for by, expected in {
        "model": {"gpt-test": 120, "judge": 101},
        "key": {"tenant-a": 120, "(no key)": 101},
        "task": {"general": 120, "self_check_input": 101},
    }.items():
        rows = json.loads(await command(redis_url, "--by", by, "--json"))["rows"]
        assert {row[by]: row["input"] + row["output"] for row in rows} == expected
    table = await command(redis_url, "--since", "2w")
    assert "gpt-test" in table
    assert "200" in table, "the foot has the sum of both"


async def test_a_call_that_nobody_counted_is_unknown_and_estimated_and_never_nothing(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    cut = msgspec.structs.replace(
        CALL,
        input_tokens=None,
        output_tokens=None,
        cached_input_tokens=0,
        reasoning_tokens=0,
        outcome="cancelled",
        complete=False,
        estimated_input_tokens=1_000,
        estimated_output_tokens=500,
    )
    await record(redis, await begin(redis), "1-1", cut, day=usage.today())
    model = {"type": "main", "engine": "scripted", "model": "gpt-test"}
    prices = {"gpt-test": {"input": 1, "output": 2}}
    (tmp_path / "config.yml").write_text(
        yaml.safe_dump({"models": [model], "railstream": {"prices": prices}}), encoding="utf-8"
    )
    config = ("--config", str(tmp_path))
    (row,) = json.loads(await command(redis_url, "--json", *config))["rows"]
    assert (row["input"], row["output"], row["dollars"]) == (None, None, None)
    assert (row["estimated_input"], row["estimated_output"]) == (1_000, 500)
    assert row["estimated_dollars"] == pytest.approx(0.002)
    table = await command(redis_url, *config)
    assert "unknown" in table
    assert "0.0000" not in table

    await record(redis, await begin(redis), "1-1", day=usage.today())
    (row,) = json.loads(await command(redis_url, "--json", *config))["rows"]
    assert (row["input"], row["estimated_input"], row["uncounted"], row["calls"]) == (100, 1_000, 1, 2)
    assert row["dollars"] == pytest.approx(0.00014)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"since": "soon"}, "'soon' is neither days back"),
        ({"redis_url": "redis://:hunter2@127.0.0.1:1/0"}, r"redis://:\*\*\*@127.0.0.1:1/0' does not answer"),
    ],
)
def test_what_is_wrong_with_the_command_is_said(arguments: dict[str, str], said: str) -> None:
    with pytest.raises(RailstreamError, match=said):
        show(**({"since": "7d", "redis_url": "redis://127.0.0.1:1/0"} | arguments))
