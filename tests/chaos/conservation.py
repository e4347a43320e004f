"""The judge: what clients saw, what the log holds, what the oracle says and what the upstream wrote must agree.

It shares no code with the product but the event ids and the keys.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from chaos.clients import Client
from chaos.world import CONTINUING, KEEPING, World
from harness.sse import opened
from railstream import keys
from railstream.ids import EventId, parse_event_id

TERMINAL = {b"finished", b"blocked", b"failed", b"cancelled"}

Entry = tuple[EventId, bytes, bytes]

KINDS = {CONTINUING: "of models that continue", KEEPING: "of providers that keep runs"}


@dataclass
class Verdict:
    """``wrong`` names every breach; the counters say what was seen."""

    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def breach(self, kind: str, client: Client, what: str) -> None:
        self.counts[kind] += 1
        self.wrong.append(f"{kind}: {client.request_id} (seed {client.question.seed}): {what}")


def read_log(world: World, request_id: str) -> list[Entry]:
    with world.redis.client() as redis:
        found: Any = redis.xrange(keys.events(request_id))
    return [(parse_event_id(entry), fields[b"event"], fields[b"data"]) for entry, fields in found]


async def check(world: World, clients: list[Client], *, replays: int = 20) -> Verdict:
    """Judge all of them, each with what Redis was made to forget during its life."""
    verdict = Verdict()
    ledger: dict[str, list[dict[str, Any]]] = {}
    for call in await world.ledger():
        ledger.setdefault(call["id"].partition(".")[0], []).append(call)
    for client in clients:
        verdict.counts["requests"] += 1
        verdict.counts["resumes"] += max(0, client.connections - 1 - client.refusals)
        verdict.counts["asked again after a lost job"] += client.asked_again
        verdict.counts[KINDS.get(client.question.config, "of models that do not")] += 1
        verdict.counts["gaps said"] += len(client.before_gaps)
        if client.before_gaps and not client.forgotten:
            verdict.breach("lost", client, "it was told of a gap, and nothing had been forgotten")
        if client.lost or not client.done:
            kind = "losses said" if client.lost and client.forgotten else "lost"
            if kind == "lost":
                verdict.breach(kind, client, client.lost or "no end")
            else:
                verdict.counts[kind] += 1
            continue
        log = read_log(world, client.request_id)
        if client.forgotten and not log and client.text == client.question.answer:
            verdict.counts["ended before a loss"] += 1
            continue
        if client.forgotten and client.text == client.question.answer and log[-1][1] not in TERMINAL:
            await _ends_for_a_reader(verdict, world, client)  # redis forgot its end, and its job was taken away
            continue
        _one_stream(verdict, client, log)
        _same_frames(verdict, client, log)
        _text(verdict, client, log)
        _usage(verdict, client, log, ledger.get(client.request_id, []))
    for client in world.random.sample(clients, min(replays, len(clients))):
        if client.done and not client.forgotten:
            await _replay(verdict, world, client)
    return verdict


def _one_stream(verdict: Verdict, client: Client, log: list[Entry]) -> None:
    ends = [position for position, (_, name, _) in enumerate(log) if name in TERMINAL]
    if ends != [len(log) - 1]:
        return verdict.breach("hidden", client, f"terminal events at {ends} of {len(log)}")
    verdict.counts[log[-1][1].decode()] += 1
    previous: EventId | None = None
    for id, name, data in log:
        if previous is None:
            right = name in (b"started", b"cancelled") or client.forgotten
        elif id.attempt == previous.attempt:
            right = id.seq == previous.seq + 1
        else:
            right = id.seq == 0 and name == b"restarted" and json.loads(data)["after"] == str(previous)
            verdict.counts["takeovers"] += 1
        if not right:
            verdict.breach("doubled", client, f"{id} {name.decode()} after {previous}")
        previous = id


def _same_frames(verdict: Verdict, client: Client, log: list[Entry]) -> None:
    """What the client holds is the log, each chunk once, in order, byte for byte."""
    chunks = [(str(id), data) for id, name, data in log if name == b"chunk"]
    seen = [frame for frame in client.frames if frame.id is not None]
    ids = [parse_event_id(frame.id or "") for frame in seen]
    if ids != sorted(set(ids)):
        verdict.breach("doubled", client, f"ids do not grow: {[str(id) for id in ids][:50]}")
    held = {frame.id: frame.raw for frame in seen}
    missing = [id for id, data in chunks if b'"delta":' + data not in held.get(id, b"")]
    texts = sum(bool(frame.text) for frame in seen)
    spoken = sum(b'"content":""' not in data and b'"content"' in data for _, data in chunks)
    if missing or texts != spoken:
        if client.forgotten and client.text == client.question.answer:
            verdict.counts["served whole, then run again"] += 1  # Redis forgot that it was done
        else:
            verdict.breach("lost", client, f"{len(missing)} of {len(chunks)} chunks missing, {texts} frames with text")


def _text(verdict: Verdict, client: Client, log: list[Entry]) -> None:
    """Finished: the oracle's text, all of it. Any other end: a beginning of it."""
    if not log:
        return
    text, oracle = client.text, client.question.answer
    if log[-1][1] in (b"failed", b"blocked") and not client.may_fail:
        verdict.breach("failed", client, f"{client.error}")
    if text == oracle:
        return
    if not oracle.startswith(text):
        at = next((n for n, (a, b) in enumerate(zip(text, oracle, strict=False)) if a != b), len(oracle))
        verdict.breach("doubled", client, f"differs from the oracle at {at}: {text[at - 20 : at + 20]!r}")
    elif log[-1][1] == b"finished" or client.error is None:
        verdict.breach("hidden", client, f"{len(text)} of {len(oracle)} characters, and an end that says all is well")


def _usage(verdict: Verdict, client: Client, log: list[Entry], calls: list[dict[str, Any]]) -> None:
    """One record per call; a complete one equals the ledger; no other one is above it."""
    records = [json.loads(data) for _, name, data in log if name == b"usage"]
    names = Counter(record["call"] for record in records)
    if any(count > 1 for count in names.values()):
        verdict.breach("doubled", client, f"usage recorded twice: {names}")
    by_call = {call["id"].partition(".")[2]: call for call in calls}
    for record in records:
        call = by_call.get(record["call"])
        told = record.get("output_tokens")
        if call is None and record["outcome"] in ("cancelled", "lost") and told is None:
            verdict.counts["calls left before they arrived"] += 1  # begun here, and ended before the upstream had it
        elif call is None:
            verdict.breach("money", client, f"usage of a call that was never made: {record}")
        elif record.get("complete", True) and (told, record.get("input_tokens")) != (
            call["tokens"],
            call["prompt_tokens"],
        ):
            verdict.breach("money", client, f"{record} is not what the ledger says: {call}")
        elif told is not None and told > call["tokens"]:
            verdict.breach("money", client, f"{record} is above the ledger: {call}")
    verdict.counts["calls recorded as lost"] += sum(record.get("outcome") == "lost" for record in records)
    last = max((id.attempt for id, _, _ in log), default=0)
    spoke = {id.attempt for id, name, _ in log if name == b"chunk"}
    for name, call in by_call.items():
        verdict.counts["calls"] += 1
        if name in names:
            continue
        attempt = int(name.split(".")[0])
        if client.forgotten:
            verdict.counts["calls that redis forgot"] += 1
        elif attempt == last and log and log[-1][1] != b"cancelled":
            verdict.breach("money", client, f"a call of the last attempt is not recorded: {call}")
        elif attempt in spoke and log[-1][1] == b"finished":
            verdict.breach("money", client, f"a call that died with its worker is not recorded as lost: {call}")
        else:
            verdict.counts["calls that died before their first word"] += 1


async def _ends_for_a_reader(verdict: Verdict, world: World, client: Client) -> None:
    """A stream that its client had whole and that nobody will write any more: whoever reads it is told so."""
    gateway = world.live_gateway()
    assert gateway is not None
    async with asyncio.timeout(60), opened(f"{gateway.api}/chat/completions/{client.request_id}?stream=true") as stream:
        await stream.read()
    ends = [name for _, name, _ in read_log(world, client.request_id) if name in TERMINAL]
    if not stream.done or len(ends) != 1:
        return verdict.breach("hidden", client, f"a later reader saw no end, and the log holds {ends}")
    verdict.counts["served whole, then forgotten with its job"] += 1


async def _replay(verdict: Verdict, world: World, client: Client) -> None:
    gateway = world.live_gateway()
    assert gateway is not None
    async with opened(f"{gateway.api}/chat/completions/{client.request_id}?stream=true") as stream:
        await stream.read()
    if [frame.raw for frame in stream.frames] != [frame.raw for frame in client.frames]:
        verdict.breach("doubled", client, "a replay is not byte for byte what the client was given")
    verdict.counts["replays compared"] += 1
