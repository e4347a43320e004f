"""An action with the name of a built-in rail's takes its place, and means what NeMo Guardrails' flow makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from railstream.config import RailsConfig
from railstream_engine.rails.engine import RailsEngine
from unit.rails.guarding import turn

PROMPTS = [
    {"task": task, "content": "{{ bot_response }}"}
    for task in ("self_check_output", "self_check_facts", "self_check_hallucination", "llama_guard_check_output")
]
PROMPTS.append({"task": "content_safety_check_output $model=safety", "content": "{{ bot_response }}"})
MODELS = [{"type": kind, "engine": "scripted", "model": kind} for kind in ("main", "safety", "llama_guard")]


def replaced(flow: str, name: str, returned: Any) -> RailsEngine:
    async def own(text: str) -> Any:
        return returned

    config = RailsConfig.from_content(
        config={
            "models": MODELS,
            "prompts": PROMPTS,
            "rails": {
                "output": {"flows": [flow]},
                "config": {"regex_detection": {"output": {"patterns": ["never"]}}},
            },
        }
    )
    return RailsEngine(config, {name: own})


@pytest.mark.parametrize(
    ("flow", "name", "allows", "blocks"),
    [
        ("self check output", "self_check_output", True, False),
        ("self check facts", "self_check_facts", 0.9, 0.2),
        ("self check facts", "self_check_facts", True, False),
        ("self check hallucination", "self_check_hallucination", False, True),
        (
            "content safety check output $model=safety",
            "content_safety_check_output",
            {"allowed": True, "policy_violations": []},
            {"allowed": False, "policy_violations": ["S1"]},
        ),
        ("llama guard check output", "llama_guard_check_output", {"allowed": True}, {"allowed": False}),
        ("regex check output", "detect_regex_pattern", {"is_match": False}, {"is_match": True}),
        ("self check output", "self_check_output", {"allowed": True}, {"odd": 1}),
    ],
)
async def test_it_allows_and_blocks_as_the_flow_of_that_name_does(
    flow: str, name: str, allows: Any, blocks: Any
) -> None:
    for returned, blocked in ((allows, False), (blocks, True)):
        text, violation = await replaced(flow, name, returned).check_output(turn(), "an answer")
        assert (violation is not None) is blocked
        assert text == ("" if blocked else "an answer")


async def test_an_answer_that_the_flow_does_not_know_blocks() -> None:
    _, violation = await replaced("self check output", "self_check_output", "maybe").check_output(turn(), "an answer")
    assert violation is not None
    assert violation.code == "rail_execution_failure"
