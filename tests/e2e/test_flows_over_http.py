"""Several models at once, and graphs of operations: interleaved, resumable, and what is finished stays finished."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Any

import pytest
from harness.sse import Frame, fetch, opened
from harness.stack import MODEL, Stack, model, surviving
from harness.waiting import until
from railstream.testing import Script, directive

QUICK = {"RAILSTREAM_LEASE": "2", "RAILSTREAM_SCAN": "0.2"}
CONFIGS: dict[str, Any] = {
    "two": {"models": [model("", model="alpha", parameters={}), model("", model="beta", parameters={})]},
    "plain": {},
    "guarded": {
        "models": [model("", model="gamma", parameters={})],
        "rails": {
            "output": {"flows": ["regex check output"], "streaming": {"enabled": True}},
            "config": {"regex_detection": {"output": {"patterns": ["forbidden"]}}},
        },
    },
}


@pytest.fixture
async def stack(start_stack: Any) -> Stack:
    made: Stack = await start_stack(
        gateways=2, configs=surviving(CONFIGS), script=Script(words=6, rate=100), environment=QUICK
    )
    return made


def choices(frames: list[Frame]) -> list[dict[str, Any]]:
    return [choice for frame in frames if not frame.done for choice in frame.json["choices"]]


async def test_several_models_are_one_choice_each_with_their_own_finish_and_usage(stack: Stack) -> None:
    stack.upstream.models["alpha"] = Script(text="I am alpha and say so", rate=100)
    stack.upstream.models["beta"] = Script(text="I am beta too, and more", rate=100)
    given = {"model": None, "railstream": {"models": ["alpha", "beta"]}, "stream_options": {"include_usage": True}}
    async with stack.ask("Who are you?", **given) as stream:
        frames = await stream.read()
    said = choices(frames)
    for index, name in enumerate(("alpha", "beta")):
        own = [choice for choice in said if choice["index"] == index and "model" in choice]
        assert {choice["model"] for choice in own} == {name}
        text = "".join(choice["delta"].get("content") or "" for choice in own)
        assert text == stack.upstream.models[name].text
        assert own[-1]["finish_reason"] == "stop"
        assert own[-1]["usage"]["completion_tokens"] == 6
    order = [choice["index"] for choice in said if choice["delta"].get("content")]
    assert order != sorted(order), "they are interleaved"
    assert frames[-2].json["usage"]["completion_tokens"] == 12
    async with stack.resume(stream.request_id, frames[4].id, gateway=1) as again:
        assert [frame.data for frame in await again.read()] == [frame.data for frame in frames[5:]]


async def test_a_model_that_fails_does_not_end_the_others(stack: Stack) -> None:
    stack.upstream.models["alpha"] = Script(words=6, fault="reset", at=2, rate=100)
    body = {"messages": [{"role": "user", "content": "x"}], "railstream": {"models": ["alpha", "beta", "gamma"]}}
    stack.upstream.models["gamma"] = Script(text="this is forbidden")
    status, answer = await fetch(f"{stack.url}/v1/chat/completions", body=body)
    assert status == 200
    alpha, beta, gamma = answer["choices"]
    assert (alpha["model"], alpha["finish_reason"], alpha["error"]["code"]) == ("alpha", "error", "connection")
    assert alpha["message"]["content"] == "".join(Script(words=6).says()[:2])
    assert (beta["finish_reason"], beta["message"]["content"]) == ("stop", "".join(Script(words=6).says()))
    assert (gamma["finish_reason"], gamma["error"]["code"]) == ("content_filter", "content_blocked")
    assert "forbidden" not in gamma["message"]["content"]


@pytest.mark.parametrize(
    ("extras", "param"),
    [
        ({"railstream": {"models": ["alpha", "nobody"]}}, "model"),
        ({"railstream": {"models": ["alpha", "alpha"]}}, "railstream.models"),
        ({"railstream": {"models": ["alpha"]}, "n": 2}, "n"),
        ({"railstream": {"models": ["alpha"]}, "guardrails": {"thread_id": "t" * 16}}, "railstream.models"),
    ],
)
async def test_models_that_cannot_answer_together_are_refused(stack: Stack, extras: Any, param: str) -> None:
    body = {"messages": [{"role": "user", "content": "x"}]} | extras
    status, refused = await fetch(f"{stack.url}/v1/chat/completions", body=body)
    assert (status, refused["error"]["param"]) in ((404, param), (400, param))


SIX: list[dict[str, Any]] = [
    {"id": "top"},
    {"id": "left", "context_from": ["top"]},
    {"id": "right", "context_from": ["top"]},
    {"id": "bottom", "context_from": ["left", "right"]},
    {"id": "one", "branch": "alone"},
    {"id": "two", "branch": "alone"},
]
"""A diamond, and a chain on one branch beside it."""


def six(**script: Any) -> list[dict[str, Any]]:
    return [{"instruction": f"Do {entry['id']}. {directive(**script)}", "model": MODEL} | entry for entry in SIX]


class Flow:
    """What the frames of a flow say."""

    def __init__(self, frames: list[Frame]) -> None:
        self.events = [(frame.event, json.loads(frame.data)) for frame in frames if frame.event]
        chunks = [data for name, data in self.events if name == "chunk"]
        self.order = [chunk["operation"] for chunk in chunks]
        self.texts: dict[str, str] = {}
        for chunk in chunks:
            text = chunk["delta"].get("content") or ""
            self.texts[chunk["operation"]] = self.texts.get(chunk["operation"], "") + text

    def named(self, name: str) -> list[str]:
        return [data["operation"] for event, data in self.events if event == name]


def ask(stack: Stack, operations: list[dict[str, Any]], **given: Any) -> Any:
    return opened(f"{stack.url}/v1/flows", body={"operations": operations, "stream": True} | given)


def resume(stack: Stack, id: str, after: str | None = None) -> Any:
    return opened(f"{stack.gateways[1].api}/flows/{id}?stream=true", after=after)


async def test_six_operations_stream_interleaved_and_resume_on_the_other_gateway(stack: Stack) -> None:
    async with ask(stack, six(words=8, rate=100)) as stream:
        frames = await stream.read()
    flow = Flow(frames)
    said = "".join(Script(words=8).says())
    assert flow.texts == {entry["id"]: said for entry in SIX}
    assert sorted(flow.named("operation_finished")) == sorted(flow.named("operation_started")) == sorted(flow.texts)
    assert sum(a != b for a, b in zip(flow.order, flow.order[1:], strict=False)) > 6, "interleaved"
    assert flow.events[-1][0] == "finished"
    async with resume(stack, stream.request_id, frames[9].id) as again:
        assert [frame.data for frame in await again.read()] == [frame.data for frame in frames[10:]]
    status, result = await fetch(f"{stack.gateways[1].api}/flows/{stream.request_id}")
    assert (status, result["status"], len(result["operations"])) == (200, "finished", 6)
    asked = {entry.body["messages"][-1]["content"].partition(" @")[0]: entry.body for entry in stack.upstream.ledger}
    bottom = next(content for content in asked if "Do bottom." in content)
    assert bottom == f"[left]\n{said}\n\n[right]\n{said}\n\nDo bottom."
    second = next(body for content, body in asked.items() if "Do two." in content)
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]


async def test_after_the_workers_death_the_next_one_does_only_what_is_not_finished(stack: Stack) -> None:
    operations = six(words=8, rate=100)
    for entry in operations:
        if entry["id"] in ("left", "right", "two"):
            entry["instruction"] = f"Do {entry['id']}. {directive(words=8, rate=100, hold=3, times=3)}"

    async def all_held() -> bool:
        return stack.upstream.held == 3

    async with ask(stack, operations) as stream:
        await until(all_held, what="left, right and two wait in mid-answer")
        await stack.workers[0].kill()
        await stack.add_worker(**QUICK).ready()
        await stream.read()
    frames = stream.frames
    flow = Flow(frames)
    assert flow.texts == {entry["id"]: "".join(Script(words=8).says()) for entry in SIX}
    assert sorted(flow.named("operation_finished")) == sorted(entry["id"] for entry in SIX)
    assert [name for name, _ in flow.events].count("restarted") == 1
    calls = Counter(
        content.partition("Do ")[2].partition(".")[0]
        for entry in stack.upstream.ledger
        for content in [[m for m in entry.body["messages"] if m["role"] == "user"][-1]["content"].rpartition("\n")[2]]
    )
    assert calls == {"top": 1, "one": 1, "left": 2, "right": 2, "two": 2, "bottom": 1}
    async with resume(stack, stream.request_id) as again:
        assert [frame.data for frame in await again.read()] == [frame.data for frame in frames]


def waits(stack: Stack, calls: int) -> bool:
    return stack.upstream.held == 2 and len(stack.upstream.ledger) >= calls


async def test_no_more_run_at_once_than_was_said(stack: Stack) -> None:
    operations = [{"id": name, "instruction": directive(hold=1), "model": MODEL} for name in "abcd"]
    async with ask(stack, operations, max_concurrent=2) as stream:
        for calls in (2, 4):
            await until(partial(waits, stack, calls), what="two wait in mid-answer")
            assert len(stack.upstream.ledger) == calls
            stack.upstream.release()
        await stream.read()
    assert len(Flow(stream.frames).named("operation_finished")) == 4


@pytest.mark.parametrize("on_failure", ["continue", "stop"])
async def test_a_failed_operation_skips_what_waits_for_it(stack: Stack, on_failure: str) -> None:
    operations = [
        {"id": "bad", "instruction": directive(fault="error_before", status=400)},
        {"id": "after", "instruction": "x", "depends_on": ["bad"]},
        {"id": "slow", "instruction": directive(words=30, rate=50)},
        {"id": "last", "instruction": "x", "depends_on": ["slow"]},
    ]
    body = {"operations": [entry | {"model": MODEL} for entry in operations], "on_failure": on_failure}
    status, flow = await fetch(f"{stack.url}/v1/flows", body=body)
    assert status == 200
    bad, after, slow, last = flow["operations"]
    assert (bad["status"], bad["error"]["code"]) == ("failed", "invalid_request")
    assert (after["status"], after["reason"]) == ("skipped", "'bad', which it waits for, failed")
    assert slow["status"] == "finished"
    assert last["status"] == ("finished" if on_failure == "continue" else "skipped")


async def test_a_flow_is_cancelled_with_all_its_operations(stack: Stack) -> None:
    operations = [{"id": id, "instruction": directive(words=50, hold=2), "model": MODEL} for id in ("a", "b")]
    async with ask(stack, [*operations, {"id": "c", "instruction": "x", "depends_on": ["a"]}]) as stream:
        await until(lambda: stack.upstream.held == 2, what="both wait in mid-answer")
        status, _ = await fetch(f"{stack.gateways[1].api}/flows/{stream.request_id}/cancel", body={})
        assert status == 200
        frames = await stream.read()
    assert Flow(frames).events[-1][0] == "cancelled"
    await stack.upstream.ledger.wait(ended=2, timeout=5)
    assert {entry.outcome for entry in stack.upstream.ledger} == {"closed_by_client"}
    _, flow = await fetch(f"{stack.url}/v1/flows/{stream.request_id}")
    assert (flow["status"], [entry["status"] for entry in flow["operations"]]) == ("cancelled", ["cut", "cut"])


async def test_rails_apply_to_each_operation(stack: Stack) -> None:
    stack.upstream.models["gamma"] = Script(text="this is forbidden here")
    operations = [
        {"id": "a", "instruction": "x", "config_id": "guarded"},
        {"id": "b", "instruction": "x", "config_id": "plain"},
    ]
    _, flow = await fetch(f"{stack.url}/v1/flows", body={"operations": operations})
    a, b = flow["operations"]
    assert (a["status"], a["error"]["code"]) == ("failed", "content_blocked")
    assert "forbidden" not in a["text"]
    assert (b["status"], b["finish_reason"]) == ("finished", "stop")


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ([{"id": "a", "instruction": "x", "depends_on": ["b"]}], "unknown_operation"),
        (
            [
                {"id": "a", "instruction": "x", "depends_on": ["b"]},
                {"id": "b", "instruction": "x", "context_from": ["a"]},
            ],
            "cycle",
        ),
        ([{"id": "a", "instruction": "x", "model": "nobody"}], "model_not_found"),
        ([{"id": "a", "instruction": "x"}, {"id": "a", "instruction": "y"}], "invalid_request"),
        ([{"id": "a", "instruction": "x", "dependson": []}], "unknown_option"),
    ],
)
async def test_a_graph_that_cannot_run_is_refused_before_anything_is_queued(
    stack: Stack, operations: Any, code: str
) -> None:
    status, refused = await fetch(f"{stack.url}/v1/flows", body={"operations": operations})
    assert (status // 100, refused["error"]["code"]) == (4, code)
    assert len(stack.upstream.ledger) == 0
