"""Flows: how their text is taken apart, and what the built-in ones demand of a config."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from railstream.config import BUILT_IN, Flow, RailsConfig

Refusal = Callable[[str], str]

MAIN = "models: [{type: main, engine: openai, model: gpt-4o-mini}, {type: cs, engine: nim, model: guard}]\n"


def with_flow(stage: str, flow: str, more: str = "") -> str:
    return f"{MAIN}rails:\n  {stage}:\n    flows: ['{flow}']\n{more}"


def prompt(task: str) -> str:
    return f"prompts: [{{task: '{task}', content: 'Is it? {{{{ user_input }}}}'}}]\n"


def test_a_flow_is_its_text_with_its_parts() -> None:
    flow = Flow("content safety check output $model=content_safety")
    assert flow == flow.text == "content safety check output $model=content_safety"
    assert (flow.name, dict(flow.arguments)) == ("content safety check output", {"model": "content_safety"})
    assert flow.built_in is BUILT_IN["content safety check output"]
    assert flow.prompt_task == "content_safety_check_output $model=content_safety"


def test_arguments_may_be_quoted_and_several() -> None:
    flow = Flow("""check prices  $currency="US dollar" $limit='3'""")
    assert dict(flow.arguments) == {"currency": "US dollar", "limit": "3"}
    assert (flow.name, flow.action, flow.built_in) == ("check prices", "check_prices", None)


@pytest.mark.parametrize(
    "text", ["", "$model=x", "a$model=x", "a $model", "a $model=", "a $model= x", "a $m=1 $m=2", "a $m=x y", "a\nb"]
)
def test_a_malformed_flow_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"flow|names|value"):
        Flow(text)


def test_a_malformed_flow_is_refused_with_its_place(refusal: Refusal) -> None:
    assert "rails.output.flows[0]: 'a $model' is no flow" in refusal(with_flow("output", "a $model"))


def test_a_custom_flow_needs_nothing() -> None:
    config = RailsConfig.from_content(yaml_content=with_flow("output", "check prices $currency=usd"))
    assert config.rails.output.flows == ("check prices $currency=usd",)
    assert isinstance(config.rails.output.flows[0], Flow)


@pytest.mark.parametrize(
    ("stage", "flow", "task"),
    [
        ("input", "self check input", "self_check_input"),
        ("output", "self check output", "self_check_output"),
        ("output", "self check output $variant=tone", "self_check_output $variant=tone"),
        ("output", "self check facts", "self_check_facts"),
        ("output", "self check hallucination", "self_check_hallucination"),
        ("input", "content safety check input $model=cs", "content_safety_check_input $model=cs"),
        ("output", "content safety check output $model=cs", "content_safety_check_output $model=cs"),
        ("input", "topic safety check input $model=cs", "topic_safety_check_input $model=cs"),
    ],
)
def test_a_judge_needs_its_prompt(stage: str, flow: str, task: str, refusal: Refusal) -> None:
    assert f"rails.{stage}.flows[0]: the flow '{flow}' needs a prompt with `task: {task}`" in refusal(
        with_flow(stage, flow)
    )
    config = RailsConfig.from_content(yaml_content=with_flow(stage, flow, prompt(task)))
    assert config.prompt_task_of(getattr(config.rails, stage).flows[0]) == task


def test_a_variant_may_stand_under_its_bare_task() -> None:
    config = RailsConfig.from_content(yaml_content=with_flow("input", "self check input $variant=tone", prompt("tone")))
    assert config.prompt_task_of(config.rails.input.flows[0]) == "tone"


def test_llama_guard_needs_its_model_and_prompt(refusal: Refusal) -> None:
    message = refusal(with_flow("output", "llama guard check output"))
    assert "needs a model of type 'llama_guard'" in message
    assert "needs a prompt with `task: llama_guard_check_output`" in message


def test_a_model_argument_must_name_a_model_type(refusal: Refusal) -> None:
    for flow in ("content safety check output $model=other", "my own $model=other"):
        assert "asks a model of type 'other', which is not under `models`; there: 'cs', 'main'" in refusal(
            with_flow("output", flow)
        )
    assert "must say which model it asks" in refusal(with_flow("output", "content safety check output"))


@pytest.mark.parametrize(("stage", "flow"), [("input", "self check output"), ("output", "mask pii on input")])
def test_a_flow_of_the_other_stage_is_refused(stage: str, flow: str, refusal: Refusal) -> None:
    assert f"not of the {stage} rails" in refusal(with_flow(stage, flow))


@pytest.mark.parametrize(
    ("flow", "missing"),
    [
        ("regex check output", "regex_detection.output.patterns"),
        ("terms check output", "terms.output.terms"),
        ("mask terms on output", "terms.output.terms"),
        ("detect sensitive data on output", "sensitive_data_detection.output.entities"),
        ("injection detection", "injection_detection.injections"),
    ],
)
def test_a_flow_with_nothing_to_look_for_is_refused(flow: str, missing: str, refusal: Refusal) -> None:
    assert f"fill rails.config.{missing}" in refusal(with_flow("output", flow))


def test_pii_and_secrets_look_for_everything_unless_told() -> None:
    config = RailsConfig.from_content(
        yaml_content=MAIN + "rails: {output: {flows: [mask pii on output, detect secrets on output]}}"
    )
    assert "email" in config.rails.config.pii_patterns.output.entities
    assert config.rails.config.secrets.output.entities == ("api_key",)


STREAMING = """
    streaming: {{enabled: true{}}}
  config:
    sensitive_data_detection: {{output: {{entities: [PERSON]}}}}
    injection_detection: {{injections: [sqli], action: omit}}
"""


@pytest.mark.parametrize("flow", ["mask sensitive data on output", "injection detection"])
@pytest.mark.parametrize("window", ["", ", context_size: 0, stream_first: true", ", context_size: 5"])
def test_a_rail_that_rewrites_windows_needs_windows_that_do_not_overlap(
    flow: str, window: str, refusal: Refusal
) -> None:
    message = refusal(with_flow("output", flow, STREAMING.format(window)))
    assert f"rails.output.streaming: '{flow}' rewrites the text a window at a time" in message
    assert "`mask pii on output`" in message
    fine = with_flow("output", flow, STREAMING.format(", context_size: 0"))
    assert RailsConfig.from_content(yaml_content=fine).rails.output.flows == (flow,)


@pytest.mark.parametrize("flow", ["mask pii on output", "mask secrets on output", "detect sensitive data on output"])
def test_incremental_masks_and_detectors_stream_with_any_window(flow: str) -> None:
    text = with_flow("output", flow, STREAMING.format(", context_size: 5, stream_first: true"))
    assert RailsConfig.from_content(yaml_content=text).rails.output.streaming.context_size == 5


def test_a_refusal_is_what_the_flow_says_in_nemo_or_the_config_does() -> None:
    config = RailsConfig.from_content(yaml_content="bot_messages: {inform answer unknown: [No idea.]}")
    assert config.refusal(Flow("self check output")) == "I'm sorry, I can't respond to that."
    assert config.refusal(Flow("detect pii on output")) == "No idea."
    assert config.refusal() == config.refusal(Flow("my own")) == "I'm sorry, I can't respond to that."


def test_the_table_of_flows_is_consistent() -> None:
    for name, entry in BUILT_IN.items():
        assert name == entry.name
        assert Flow(name).built_in is entry
        assert entry.stage in name or entry.stage == "output" or name == "jailbreak detection heuristics"
