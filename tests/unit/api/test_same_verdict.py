"""One table of configs and texts: the Python API says and decides what the worker's own generation does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from railstream import LLMRails, RailsConfig
from railstream.events import Blocked, Failed, Finished
from railstream.telemetry import of_program
from railstream.testing import Judge, Script, Upstream
from railstream_engine.generation.calls import Caller
from railstream_engine.generation.generation import Generation
from railstream_engine.models import Models
from railstream_engine.rails.engine import RailsEngine
from railstream_engine.rails.port import Turn

ON = {"enabled": True}
JUDGED: dict[str, Any] = {
    "rails": {"output": {"flows": ["self check output"], "streaming": ON | {"chunk_size": 4, "context_size": 2}}},
    "prompts": [{"task": "self_check_output", "content": "Does this hold MARK? {{ bot_response }}"}],
}
REGEX = {"regex_detection": {"output": {"patterns": [r"secret-\d+"]}, "input": {"patterns": [r"secret-\d+"]}}}
MAIL = {"pii_patterns": {"output": {"entities": ["email"]}, "input": {"entities": ["email"]}}}
REGEX_RAILS = {"config": REGEX, "output": {"flows": ["regex check output"], "streaming": ON}}
MAIL_RAILS = {"config": MAIL, "output": {"flows": ["mask pii on output"], "streaming": ON}}
INPUT_RAILS = {"config": REGEX | MAIL, "input": {"flows": ["regex check input", "mask pii on input"]}}
LETTER = "Write to joe@example.com or jane@example.org, please."

TABLE: dict[str, tuple[dict[str, Any], Script, str]] = {
    "plain": ({}, Script(text=LETTER), "Hi"),
    "nothing": ({}, Script(text=""), "Hi"),
    "regex, clean": ({"rails": REGEX_RAILS}, Script(text=LETTER, piece=3), "Hi"),
    "regex, hit": ({"rails": REGEX_RAILS}, Script(text="The key is secret-123, keep it.", piece=2), "Hi"),
    "refusal": (
        {"rails": REGEX_RAILS, "railstream": {"on_violation": "refusal"}},
        Script(text="The key is secret-123, keep it."),
        "Hi",
    ),
    "mask": ({"rails": MAIL_RAILS}, Script(text=LETTER, piece=1), "Hi"),
    "judge, clean": (JUDGED, Script(words=30), "Hi"),
    "judge, hit": (JUDGED, Script(text="One two three four five six MARK is here seven eight nine ten."), "Hi"),
    "input, blocked": ({"rails": INPUT_RAILS}, Script(words=3), "Use secret-123"),
    "input, masked": ({"rails": INPUT_RAILS}, Script(words=3), LETTER),
    "speculative": (
        {"rails": INPUT_RAILS | {"input": INPUT_RAILS["input"] | {"speculative_generation": True}}},
        Script(words=3),
        "Use secret-123",
    ),
    "refused": ({}, Script(fault="error_before", status=400), "Hi"),
    "truncated": ({"rails": REGEX_RAILS}, Script(words=5, fault="early_end", at=3), "Hi"),
}


class Released:
    """A sink as the worker has one: deltas as JSON."""

    def __init__(self) -> None:
        self.deltas: list[bytes] = []

    def chunk(self, delta: bytes, choice: bytes = b"") -> None:
        self.deltas.append(delta)

    async def room(self) -> None:
        """There is always some."""

    def has_room(self) -> bool:
        return True


async def of_generation(config: RailsConfig, question: str, streaming: bool) -> tuple[str, Any]:
    models, sink = Models(), Released()
    served = models.of(config, "")
    caller = Caller("chatcmpl-test", 1, served, lambda usage: None, of_program().calls)
    turn = Turn([{"role": "user", "content": question}], caller.ask)
    outcome = await Generation(
        config=config,
        rails=RailsEngine(config),
        model=served["main"],
        turn=turn,
        params={},
        caller=caller,
        sink=sink,
        streaming=streaming,
    ).run()
    await models.aclose()
    texts = [msgspec.json.decode(delta).get("content", "") for delta in sink.deltas]
    return "".join(texts), outcome


def without_request_id(outcome: Any) -> Any:
    """The provider names each call of its own, also where both fail alike."""
    return msgspec.structs.replace(outcome, upstream_request_id="") if isinstance(outcome, Failed) else outcome


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("case", TABLE)
async def test_the_same_text_and_the_same_verdict(upstream: Upstream, case: str, streaming: bool) -> None:
    given, upstream.script, question = TABLE[case]
    upstream.models["judge"] = Script(judge=Judge("MARK is here"))
    parameters = {"base_url": upstream.url, "api_key": "testing", "max_retries": 0}
    models = [
        {"type": kind, "engine": "openai", "model": name, "parameters": parameters}
        for kind, name in (("main", "testing"), ("self_check_output", "judge"))
    ]
    config = RailsConfig.from_content(config={"models": models} | given)
    text, outcome = await of_generation(config, question, streaming)
    async with LLMRails(config) as rails:
        *texts, ended = [piece async for piece in rails.stream_events_async(question, streaming=streaming)]
        assert "".join(map(str, texts)) == text
        assert without_request_id(ended) == without_request_id(outcome)
        if isinstance(outcome, Finished):
            assert await rails.generate_async(question) == text
        elif isinstance(outcome, Blocked):
            assert await rails.generate_async(question) == outcome.refusal
        else:
            assert isinstance(outcome, Failed)
