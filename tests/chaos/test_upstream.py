"""G9: each way an upstream can fail is a typed error to the client, and never a success that is too short."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from chaos import stories
from chaos.clients import Client
from chaos.conftest import SEED
from chaos.world import World, running_world
from harness.sse import opened
from railstream.testing import directive

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="module")]

PATIENT = {"railstream": {"deadlines": {"first_token": 1.5, "between_chunks": 1.5}}}
WORDS = 30
BREAKS = {
    "error_during": {"at": 7},
    "early_end": {"at": 7},
    "reset": {"at": 7},
    "hang": {"at": 7},
    "bad_json": {"at": 7},
    "hang before the headers": {"fault": "hang", "at": -1},
}
ODD = ("split_utf8", "crlf", "comments", "ids")
"""Unusual, and valid: nobody may see a difference."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World, None]:
    directory: Path = tmp_path_factory.mktemp("upstream")
    async with running_world(directory, seed=SEED, workers=1, gateways=1, configs={"main": PATIENT}) as one:
        yield one


async def asked(world: World, **script: Any) -> Client:
    client = stories.ask(world, 1, words=WORDS, rate=60)[0]
    client.question.given = script
    client.may_fail = True
    task = asyncio.create_task(client.run())
    await stories.judged(world, [client], [task], replays=1)
    return client


@pytest.mark.parametrize("mode", list(BREAKS))
async def test_g9_a_broken_answer_is_a_typed_error_after_what_had_come(world: World, mode: str) -> None:
    client = await asked(world, **({"fault": mode} | BREAKS[mode]))
    assert client.error is not None, client.frames[-3:]
    assert client.error["type"] == "upstream_error"
    assert client.question.answer.startswith(client.text)
    assert client.text != client.question.answer
    (*_, call) = await world.ledger(client.request_id)
    assert call["outcome"] != "open", "the upstream's connection was closed"
    if mode.startswith("hang"):
        assert call["outcome"] == "closed_by_client"


async def test_g9_a_failure_before_the_first_token_has_its_own_status(world: World) -> None:
    question = directive(fault="error_before", status=400)
    body = {"stream": True, "messages": [{"role": "user", "content": question}]}
    async with opened(f"{world.gateways[0].api}/chat/completions", body=body) as stream:
        error = json.loads(await stream.body())["error"]
    assert (stream.status, error["type"], error["code"]) == (400, "invalid_request_error", "invalid_request")


@pytest.mark.parametrize("mode", ODD)
async def test_g9_an_odd_but_valid_answer_is_the_answer(world: World, mode: str) -> None:
    client = await asked(world, fault=mode)
    assert client.error is None
    assert client.text == client.question.answer


async def test_g9_a_slow_first_token_is_waited_for_with_keep_alives(world: World) -> None:
    client = stories.ask(world, 1, words=5)[0]
    client.question.given = {"delay_first": 1.2}
    await stories.judged(world, [client], [asyncio.create_task(client.run())])
    assert client.comments >= 1
    assert client.text == client.question.answer
