"""Flows and conversations while a worker and a gateway are killed: no answer is generated, no turn kept twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from chaos import stories
from chaos.clients import AGAIN, BROKEN, SILENCE, Client, Question
from chaos.conftest import StartWorld
from chaos.conservation import read_log
from chaos.takeovers import Takeovers
from chaos.world import World
from harness.processes import Gateway, Worker
from harness.sse import Frame, fetch, opened
from harness.stack import MODEL
from harness.waiting import until
from railstream import events, keys
from railstream.graph import with_context
from railstream.ids import EventId, parse_event_id
from railstream.testing import text

pytestmark = [pytest.mark.chaos, pytest.mark.asyncio(loop_scope="session")]

WORDS = 40
RATE = 25
SIX: list[dict[str, Any]] = [
    {"id": "top", "branch": "diamond"},
    {"id": "left", "context_from": ["top"]},
    {"id": "right", "context_from": ["top"]},
    {"id": "bottom", "context_from": ["left", "right"], "branch": "diamond"},
    {"id": "one", "branch": "chain"},
    {"id": "two", "branch": "chain"},
]
"""A diamond whose ends share a branch, and a chain on another one."""
BRANCHES = ("a", "b", "c", "d")
TURNS = 3


def asked(seed: str) -> str:
    return f"Go on. @upstream {json.dumps({'words': WORDS, 'rate': RATE, 'seed': seed})}"


def answered(seed: str) -> str:
    return text.text(seed, WORDS)


@dataclass
class Reader:
    """A client of a flow that resumes wherever a gateway answers, until the stream has ended."""

    world: World
    session: str
    request_id: str = ""
    frames: list[Frame] = field(default_factory=list)
    connections: int = 0
    gateway: Gateway | None = None
    """The one that it reads from."""
    _key: str = field(default_factory=lambda: uuid.uuid4().hex)
    _open: list[Frame] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return bool(self.frames) and self.frames[-1].event in {name.decode() for name in events.TERMINAL}

    def named(self, event: str) -> list[str]:
        frames = [*self.frames, *self._open]
        return [frame.json["operation"] for frame in frames if frame.event == event]

    async def run(self) -> None:
        async with asyncio.timeout(90):
            while not self.ended:
                with contextlib.suppress(*BROKEN):
                    await self._connect()
                await asyncio.sleep(AGAIN)

    async def _connect(self) -> None:
        gateway = self.gateway = self.world.live_gateway()
        if gateway is None:
            return
        self.connections += 1
        after = next((frame.id for frame in reversed(self.frames) if frame.id is not None), None)
        if self.request_id:
            opening = opened(f"{gateway.api}/flows/{self.request_id}?stream=true", after=after)
        else:
            opening = opened(f"{gateway.api}/flows", body=self._body(), headers={"idempotency-key": self._key})
        async with asyncio.timeout(SILENCE * 3), opening as stream:
            if stream.status != 200:
                return
            self.request_id, self._open = self.request_id or stream.request_id, stream.frames
            try:
                await stream.read()
            finally:
                self.frames += stream.frames
                self._open = []

    def _body(self) -> dict[str, Any]:
        operations = [{"instruction": asked(entry["id"]), "model": MODEL} | entry for entry in SIX]
        return {"operations": operations, "stream": True, "railstream": {"session": self.session}}


class Turn(Question):
    """A question on a branch."""

    def body(self) -> dict[str, Any]:
        return super().body() | {"messages": [{"role": "user", "content": asked(self.seed)}], "railstream": self.given}


async def test_nothing_is_generated_or_said_twice_while_a_worker_and_a_gateway_are_killed(
    start_world: StartWorld,
) -> None:
    world = await start_world()
    api = world.gateways[0].api
    _, made = await fetch(f"{api}/sessions", body={})
    session = str(made["id"])
    for name in ("diamond", "chain", *BRANCHES):
        await fetch(f"{api}/sessions/{session}/branches", body={"name": name})
    reader, chats = Reader(world, session), list[Client]()
    tasks = [asyncio.create_task(reader.run())]
    tasks += [asyncio.create_task(talk(world, session, name, chats)) for name in BRANCHES]

    await until(lambda: reader.named("operation_finished") and speaking(reader, "left", "right"), timeout=30)
    running = Takeovers(world).running_on
    victim = next(worker for worker in world.workers if running(worker, [reader.request_id]))
    assert reader.gateway is not None
    await asyncio.gather(again(victim), again(reader.gateway), *tasks)
    await stories.judged(world, chats, [])
    await judge_flow(world, reader)
    await judge_branches(world, session)


async def talk(world: World, session: str, branch: str, chats: list[Client]) -> None:
    """One turn after the other on a branch."""
    for number in range(TURNS):
        place = {"session": session, "branch": branch}
        client = Client(world, Turn(f"{branch}{number}", WORDS, RATE, given=place))
        chats.append(await client.run())


def speaking(reader: Reader, *operations: str) -> bool:
    said = Counter(reader.named("chunk"))
    return all(said[operation] >= 3 for operation in operations)


async def again(process: Gateway | Worker) -> None:
    await process.kill()
    process.start()
    await process.ready(60)


async def judge_flow(world: World, reader: Reader) -> None:
    """The stream as it was cut and resumed, held against itself uncut, the log, and the upstream's ledger."""
    assert reader.connections > 1
    assert reader.frames[-1].event == "finished"
    for gateway in world.gateways:
        async with opened(f"{gateway.api}/flows/{reader.request_id}?stream=true") as uncut:
            await uncut.read()
        assert [frame.raw for frame in uncut.frames] == [frame.raw for frame in reader.frames]
    said: dict[str, str] = {entry["id"]: "" for entry in SIX}
    for frame in reader.frames:
        if frame.event == "chunk":
            said[frame.json["operation"]] += frame.json["delta"].get("content") or ""
    assert said == {entry["id"]: answered(entry["id"]) for entry in SIX}
    log = read_log(world, reader.request_id)
    finished = {json.loads(data)["index"]: id.attempt for id, name, data in log if name == b"operation_finished"}
    recorded = Counter(json.loads(data)["call"] for _, name, data in log if name == b"usage")
    spoke = {(id.attempt, json.loads(choice)["index"]) for id, choice in choices(world, reader.request_id)}
    assert set(recorded.values()) == {1}
    assert max(finished.values()) > min(finished.values()), "the worker was killed in the middle"
    calls = [call["id"].partition(".")[2] for call in await world.ledger(reader.request_id)]
    generated = Counter[int]()
    for call in calls:
        attempt, index, _ = map(int, call.split("."))
        generated[index] += 1
        assert attempt <= finished[index], f"operation {index} was finished, and generated again: {call}"
        assert call in recorded or (attempt, index) not in spoke, f"nobody recorded {call}"
    assert set(recorded) <= set(calls)
    assert max(generated.values()) == 2, "once more at most, and something was cut"


def choices(world: World, request_id: str) -> list[tuple[EventId, bytes]]:
    """What each chunk says of its choice."""
    with world.redis.client() as redis:
        entries = redis.xrange(keys.events(request_id))
    return [(parse_event_id(id), fields[b"choice"]) for id, fields in entries if b"choice" in fields]


async def judge_branches(world: World, session: str) -> None:
    """Every turn once, in order."""
    expected = {
        name: [
            said
            for number in range(TURNS)
            for said in (("user", asked(f"{name}{number}")), ("assistant", answered(f"{name}{number}")))
        ]
        for name in BRANCHES
    }
    parts = {id: answered(id) for id in ("left", "right")}
    for branch, operations in (("diamond", ("top", "bottom")), ("chain", ("one", "two"))):
        expected[branch] = []
        for id in operations:
            question = with_context(asked(id), parts if id == "bottom" else {})
            expected[branch] += [("user", question), ("assistant", answered(id))]
    for gateway in world.gateways:
        for branch, wanted in expected.items():
            _, found = await fetch(f"{gateway.api}/sessions/{session}/branches/{branch}/messages")
            assert [(message["role"], message["content"]) for message in found["data"]] == wanted, branch
            assert not any(message.get("partial") for message in found["data"])
