"""The engine as its callers see it: what is guarded, per channel and per request, and checks without generation."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from harness.examples import examples
from hypothesis import given
from hypothesis import strategies as st
from railstream.config import RailsConfig
from railstream.config.rails import Channel
from railstream.errors import ConfigurationError, InvalidRequestError
from railstream_engine.rails.catalog import incremental_rail
from railstream_engine.rails.engine import RailsEngine
from unit.rails.guarding import Asked, Reader, chunkings, cut, engine, run, turn

DETECTION = {
    "regex_detection": {"output": {"patterns": [r"\bforbidden\b", r"\d{3}-\d{4}"]}},
    "terms": {"output": {"terms": ["secret plan", "plan b"], "mask_token": "—"}},
    "pii_patterns": {"output": {}},
    "secrets": {"output": {}},
}
ALL = ["mask pii on output", "mask secrets on output", "mask terms on output", "regex check output"]
PROMPTS = [{"task": "self_check_output", "content": "Bad? {{ bot_response }}"}]


@cache
def rails(*flows: str, **streaming: Any) -> Any:
    output = {"flows": list(flows), "streaming": {"enabled": True, **streaming}}
    return engine({"output": output, "config": DETECTION}, prompts=PROMPTS)


def test_without_rails_there_is_no_guard_so_that_deltas_pass_untouched() -> None:
    reader = Reader()
    assert rails().guard(turn(), reader.release, reader.block) is None


@pytest.mark.parametrize("channel", ["reasoning", "refusal", "tools"])
async def test_judges_and_local_rails_read_every_channel(channel: Channel) -> None:
    reader, asked = Reader(), Asked("yes")
    judged = rails("self check output", "mask pii on output")
    await run(judged.guard(turn(asked), reader.release, reader.block, channel=channel), reader, ["ada@", "x.example"])
    assert (reader.text, reader.violation is not None) == ("", True)
    assert "[email]" in asked.questions[0]


async def test_a_config_says_which_channels_a_judge_reads() -> None:
    channels = {"self check output": ["content", "tools"]}
    output = {"flows": ["self check output"], "streaming": {"enabled": True}, "channels": channels}
    built = engine({"output": output}, prompts=PROMPTS)
    reader = Reader()
    for channel, read in {"content": True, "tools": True, "reasoning": False, "refusal": False}.items():
        guard = built.guard(turn(Asked("no")), reader.release, reader.block, channel=channel)
        assert (guard is not None) is read


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"self check outptu": ["content"]}, "'self check outptu' is not one of `flows`"),
        ({"regex check output": ["content"]}, "only judging rails can be narrowed"),
        ({"self check output": []}, "needs at least one of"),
        ({"self check output": ["prose"]}, "'content', 'reasoning', 'refusal' or 'tools'"),
    ],
)
def test_channels_that_cannot_be_are_refused(channels: dict[str, list[str]], message: str) -> None:
    output = {"flows": ["self check output", "regex check output"], "channels": channels}
    with pytest.raises(ConfigurationError, match=message):
        engine({"output": output, "config": DETECTION}, prompts=PROMPTS)


async def test_a_request_may_switch_single_output_rails_off() -> None:
    reader = Reader()
    options = {"rails": {"output": ["mask pii on output"]}}
    guard = rails(*ALL).guard(turn(options=options), reader.release, reader.block)
    assert (await run(guard, reader, ["forbidden to a@b.example"])).text == "forbidden to [email]"
    assert rails(*ALL).guard(turn(options={"rails": {"output": False}}), reader.release, reader.block) is None


def test_an_incremental_rail_tells_how_much_it_holds_back_at_most() -> None:
    config = rails("terms check output", "regex check output").config
    reaches = [incremental_rail(config, flow, "output").matcher.reach for flow in config.rails.output.flows]
    assert reaches == [len("secret plan") + 1, len("forbidden") + 2]


def test_a_request_that_names_rails_in_no_known_form_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"options\.rails\.output must be true, false or a list of flows"):
        rails(*ALL).guard(turn(options={"rails": {"output": "all"}}), Reader().release, Reader().block)


async def test_a_complete_text_is_checked_by_the_same_rails() -> None:
    asked = Asked("no")
    checked = await rails(*ALL, "self check output").check_output(turn(asked), "ask a@b.example about plan b")
    assert checked == ("ask [email] about —", None)
    assert asked.questions == ["Bad? ask [email] about —"]
    text, violation = await rails(*ALL).check_output(turn(), "call 555-0199 now")
    assert (text, violation and violation.flow) == ("call ", "regex check output")
    assert await rails().check_output(turn(), "anything") == ("anything", None)


async def test_refusals_are_the_configs_own() -> None:
    built = engine(
        {"output": {"flows": ["regex check output", "detect pii on output"]}, "config": DETECTION},
        bot_messages={"refuse to respond": ["Not from me."]},
    )
    for text, refusal in (("forbidden", "Not from me."), ("a@b.example", "I don't know the answer to that.")):
        _, violation = await built.check_output(turn(), text)
        assert violation.refusal == refusal


async def test_what_ran_is_told_once_per_incremental_rail() -> None:
    given_turn = turn()
    await rails("mask pii on output", "regex check output").check_output(given_turn, "it is forbidden")
    told = [(entry["type"], entry["name"], entry["stop"]) for entry in given_turn.activated]
    assert told == [("output", "mask pii on output", False), ("output", "regex check output", True)]


FRAGMENTS = [
    *("forbidden", " ", "secret ", "plan", " b", "555-", "0199", "ada", "@", "x.example", ", ", "sk-", "a1" * 12),
    *("+49 30 ", "1234567", "\n", "é", "😀", "4111 1111 ", "1111 1111", "{}", "data: [DONE]"),
]


@examples(400)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join), chunkings, st.permutations(ALL), st.booleans())
async def test_streaming_or_not_the_same_config_gives_the_same_text_and_verdict(
    text: str, sizes: list[int], flows: list[str], judged: bool
) -> None:
    built = rails(*flows, *(["self check output"] if judged else []), chunk_size=3, context_size=1)
    whole, violation = await built.check_output(turn(Asked("no")), text)
    reader = Reader()
    await run(built.guard(turn(Asked("no")), reader.release, reader.block), reader, cut(text, sizes))
    assert (reader.violation and reader.violation.flow) == (violation and violation.flow)
    if violation is None:
        assert reader.text == whole
    else:
        assert built.guard_text(text)[0].startswith(reader.text)


@pytest.mark.parametrize("allowed", [None, False])
async def test_a_request_from_elsewhere_switches_no_rail_off_unless_the_config_says_so(allowed: bool | None) -> None:
    output = {"flows": ["regex check output"], "streaming": {"enabled": True}}
    given: dict[str, Any] = {"rails": {"output": output, "config": DETECTION}}
    config = RailsConfig.from_content(config=given | {"railstream": {"allow_request_rails": allowed}})
    locked, reader = RailsEngine(config), Reader()
    for options in ({"rails": {"output": False}}, {"rails": ["input"]}, {"rails": {"output": []}}):
        guard = locked.guard(turn(options=options), reader.release, reader.block)
        assert guard is not None
        assert locked.guards(turn(options=options), reader.block).guarded


@pytest.mark.parametrize(
    ("flow", "context"),
    [
        ("self check facts", {"check_facts": False, "relevant_chunks": "x"}),
        ("self check facts", {}),
        ("self check hallucination", {"check_hallucination": False}),
    ],
)
async def test_a_context_switches_a_rail_off_only_where_requests_may(flow: str, context: dict[str, Any]) -> None:
    task = flow.replace(" ", "_")
    config = RailsConfig.from_content(
        config={
            "rails": {"output": {"flows": [flow]}},
            "prompts": [{"task": task, "content": "{{ bot_response }}"}],
        }
    )
    for in_process, blocks in ((False, True), (True, False)):
        built = RailsEngine(config, in_process=in_process)
        _, violation = await built.check_output(turn(Asked("no"), context=context), "text")
        assert (violation is not None) is blocks
