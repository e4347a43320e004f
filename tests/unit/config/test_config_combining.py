"""Combined configs: the second takes precedence in what it sets, and a default overrides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from railstream.config import RailsConfig
from railstream.config.base import Section
from railstream.config.rails import Rails
from railstream.config.serving import Serving
from railstream.config.strictness import NEUTRAL, RULES, WITHOUT_EFFECT
from railstream.errors import ConfigurationError

Write = Callable[[str, str], Path]

MAIN = "models: [{type: main, engine: openai, model: m}]\n"


def config(text: str) -> RailsConfig:
    return RailsConfig.from_content(yaml_content=text)


def test_flows_are_joined_without_repeats_the_second_first() -> None:
    first = config("rails: {output: {flows: [a, b]}}")
    second = config("rails: {output: {flows: [c, a]}}")
    assert (first + second).rails.output.flows == ("c", "a", "b")


def test_a_default_of_the_second_does_not_undo_the_first() -> None:
    first = config("rails: {output: {streaming: {enabled: true, chunk_size: 4}}}\npassthrough: true")
    second = config("rails: {output: {streaming: {context_size: 1}}}")
    streaming = (first + second).rails.output.streaming
    assert (streaming.enabled, streaming.chunk_size, streaming.context_size) == (True, 4, 1)
    assert first.combined_with(second).passthrough is True


def test_what_the_second_sets_wins() -> None:
    assert (config("passthrough: true") + config("passthrough: false")).passthrough is False


def test_models_of_one_type_must_be_the_same() -> None:
    other = MAIN.replace("model: m", "model: n")
    with pytest.raises(ConfigurationError, match="of type 'main' one has openai/m, the other openai/n"):
        config(MAIN) + config(other)
    with pytest.raises(ConfigurationError, match="agree on the models"):
        config(MAIN) + config(MAIN.replace("openai", "nim"))


def test_of_the_same_model_the_seconds_parameters_hold() -> None:
    second = config("models: [{type: main, engine: openai, parameters: {model_name: m, temperature: 1}}]")
    combined = config(MAIN + "instructions: [{type: general, content: one}]") + second
    assert [model.parameters for model in combined.models] == [{"temperature": 1}]
    assert combined.general_instructions == "one"


def test_models_of_other_types_are_joined() -> None:
    judge = config("models: [{type: judge, engine: openai, model: j}]")
    assert [model.type for model in (config(MAIN) + judge).models] == ["judge", "main"]


def test_different_prompts_of_one_task_cannot_be_combined() -> None:
    prompts = "prompts: [{{task: t, content: {}}}]"
    one, two = config(prompts.format("one")), config(prompts.format("two"))
    assert (one + one).prompt_of("t").content == "one"
    for first, second in ((one, two), (two, one)):
        with pytest.raises(ConfigurationError, match="must agree on the prompts of a task; of 't' both"):
            first + second


def test_a_prompt_for_one_model_does_not_stand_before_the_other_configs_prompt() -> None:
    one = config("prompts: [{task: self_check_input, content: Bad}]")
    for second in ("models: [openai], ", "mode: standard, "):
        two = config(f"prompts: [{{task: self_check_input, {second}content: Say No}}]")
        for pair in ((one, two), (two, one)):
            with pytest.raises(ConfigurationError, match="must agree on the prompts"):
                pair[0] + pair[1]


def test_a_rail_at_its_defaults_is_not_narrowed_by_another_config() -> None:
    whole = config("rails: {input: {flows: [mask pii on input]}}")
    narrow = config(
        "rails: {input: {flows: [mask pii on input]},"
        " config: {pii_patterns: {input: {entities: [email], fold: false}}}}"
    )
    loose = config("rails: {config: {pii_patterns: {input: {entities: [email], fold: false}}}}")
    for second in (narrow, loose):
        for combined in (whole + second, second + whole):
            found = combined.rails.config.pii_patterns.input
            assert set(found.entities) == set(whole.rails.config.pii_patterns.input.entities)
            assert found.fold


def test_a_config_without_rails_of_a_stage_says_nothing_about_it() -> None:
    whole = config("rails: {input: {flows: [a]}, output: {flows: [b], streaming: {enabled: true}}}")
    loose = config("""
rails:
  input: {trusted_roles: [system, user, assistant, tool, developer]}
  output:
    unread_channels: pass
    alternatives: read
    streaming: {stream_first: true, context_size: 0, chunk_size: 100000, strategy: rolling, check_timeout: 9999}
""")
    for combined in (whole + loose, loose + whole):
        assert combined.rails.input == whole.rails.input
        assert combined.rails.output.model_dump() == whole.rails.output.model_dump()


STRICT = """
railstream: {allow_request_rails: false}
rails:
  input: {flows: [a], trusted_roles: [system]}
  output:
    flows: [self check output]
    channels: {self check output: [content]}
    streaming: {enabled: true, chunk_size: 4, check_timeout: 2}
  config:
    terms: {output: {terms: [x], whole_words: false}}
    pii_patterns: {output: {entities: [email]}}
    sensitive_data_detection: {output: {entities: [PERSON], score_threshold: 0.1}}
    injection_detection: {injections: [sqli], action: reject}
prompts: [{task: self_check_output, content: p}]
"""
LAX = """
railstream: {allow_request_rails: true}
rails:
  input: {flows: [b], trusted_roles: [system, tool], speculative_generation: true}
  output:
    flows: [self check output]
    channels: {self check output: [tools]}
    unread_channels: pass
    alternatives: read
    streaming: {enabled: true, stream_first: true, chunk_size: 400, strategy: rolling, check_timeout: 90}
  config:
    terms: {output: {terms: [y], case_insensitive: false, fold: false}}
    pii_patterns: {output: {entities: [card], fold: false}}
    sensitive_data_detection: {output: {entities: [PERSON], score_threshold: 0.9}}
    injection_detection: {injections: [xss], action: omit}
prompts: [{task: self_check_output, content: p}]
"""


def test_the_stricter_of_each_pair_is_kept_in_either_order() -> None:
    for first, second in ((STRICT, LAX), (LAX, STRICT)):
        both = config(first) + config(second)
        output, streaming, found = both.rails.output, both.rails.output.streaming, both.rails.config
        assert both.railstream.allow_request_rails is False
        assert set(both.rails.input.flows) == {"a", "b"}
        assert both.rails.input.trusted_roles == ("system",)
        assert not both.rails.input.speculative_generation
        assert set(output.channels["self check output"]) == {"content", "tools"}
        assert (output.unread_channels, output.alternatives) == ("drop", "drop")
        assert (streaming.stream_first, streaming.chunk_size, streaming.strategy) == (False, 4, "documented")
        assert streaming.check_timeout == 2
        assert set(found.terms.output.terms) == {"x", "y"}
        assert (found.terms.output.whole_words, found.terms.output.case_insensitive) == (False, True)
        assert found.terms.output.fold
        assert set(found.pii_patterns.output.entities) == {"email", "card"}
        assert found.sensitive_data_detection.output.score_threshold == 0.1
        assert found.injection_detection.action == "reject"


@pytest.mark.parametrize("lock", ["false", "null"])
def test_a_lock_that_one_config_says_or_leaves_out_holds(lock: str) -> None:
    locked = config(f"railstream: {{allow_request_rails: {lock}}}")
    open_ = config("railstream: {allow_request_rails: true}")
    for both in (locked + open_, open_ + locked):
        assert not both.railstream.allow_request_rails
    assert (open_ + open_).railstream.allow_request_rails is True


def test_a_config_without_output_rails_demands_nothing_of_them() -> None:
    rails = config("rails: {output: {flows: [a], streaming: {enabled: true, chunk_size: 4, context_size: 2}}}")
    for both in (rails + config(MAIN), config(MAIN) + rails):
        assert both.rails.output.streaming == rails.rails.output.streaming


def test_every_key_of_the_schema_has_a_rule_for_combining() -> None:
    """A new key is put into `RULES` or `NEUTRAL`, by whoever adds it."""
    found = {*_keys(Rails, ("rails",)), *_keys(Serving, ("railstream",))}
    known = {*RULES, *NEUTRAL}
    assert {path for path in found - known if not set(path) & set(WITHOUT_EFFECT)} == set()
    assert known - found == set()


def _keys(section: type[Section], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _keys(kind, (*path, name))
        else:
            yield (*path, name)


def test_different_actions_of_one_name_cannot_be_combined(write: Write) -> None:
    for name, body in (("a", "True"), ("b", "True"), ("c", "False")):
        root = write(f"{name}/config.yml", MAIN)
        write(f"{name}/actions.py", f"from railstream import action\n\n@action\ndef check(text):\n    return {body}\n")
    a, b, c = (RailsConfig.from_path(root / name, require_keys=False) for name in "abc")
    assert (a + b).id == "a,b"
    with pytest.raises(ConfigurationError, match="must agree on the actions of a name; 'check' is in both"):
        a + c


def test_the_digest_is_of_what_a_config_means_and_not_of_where_it_lies(write: Write) -> None:
    root = write("one/config.yml", MAIN)
    write("two/config.yml", "# the same\nmodels:\n  - model: m\n    type: main\n    engine: openai\n")
    one, two = (RailsConfig.from_path(root / name, require_keys=False) for name in ("one", "two"))
    assert one.digest == two.digest
    assert len(one.digest) == 64
    write("two/actions.py", "x = 1\n")
    three = RailsConfig.from_path(root / "two", require_keys=False)
    write("two/actions.py", "x = 2\n")
    four = RailsConfig.from_path(root / "two", require_keys=False)
    write(
        "two/config.yml",
        MAIN + "rails: {output: {flows: [regex check output]}, config: {regex_detection: {output: {patterns: [x]}}}}",
    )
    five = RailsConfig.from_path(root / "two", require_keys=False)
    digests = {config.digest for config in (one, three, four, five, one + three)}
    assert len(digests) >= 4
    assert (one + two).digest == (one + two).digest


def test_a_key_of_an_account_is_no_part_of_the_digest() -> None:
    text = "models: [{{type: main, engine: openai, model: m, parameters: {{api_key: {}}}}}]"
    assert config(text.format("a")).digest == config(text.format("b")).digest


def test_a_combination_may_be_wrong_as_a_whole() -> None:
    masks = config(
        "rails: {output: {flows: [mask sensitive data on output]}, "
        "config: {sensitive_data_detection: {output: {entities: [PERSON]}}}}"
    )
    streams = config("rails: {output: {streaming: {enabled: true}}}")
    with pytest.raises(ConfigurationError, match=r"rails\.output\.streaming: 'mask sensitive data on output'"):
        masks + streams


def test_ids_and_directories_of_both_are_kept(write: Write) -> None:
    write("a/config.yml", MAIN)
    root = write("b/config.yml", "passthrough: true")
    combined = RailsConfig.from_path(root / "a") + RailsConfig.from_path(root / "b")
    assert (combined.id, combined.directories) == ("a,b", (root / "a", root / "b"))
    assert (combined + combined).directories == (root / "a", root / "b")


def test_combining_changes_neither() -> None:
    first, second = config(MAIN), config("rails: {output: {flows: [a]}}")
    combined = first + second
    assert first.rails.output.flows == ()
    assert combined.rails.output.flows == ("a",)
    assert second.models == ()


@pytest.mark.parametrize("section", ["terms", "pii_patterns"])
def test_a_mask_is_written_as_the_first_config_says_that_masks(section: str) -> None:
    flow = {"terms": "mask terms on output", "pii_patterns": "mask pii on output"}[section]
    terms = "terms: [x], " if section == "terms" else ""

    def masking(token: str) -> RailsConfig:
        found = f"rails: {{output: {{flows: [{flow}]}}, config: {{{section}: {{output: {{{terms}{token}}}}}}}}}"
        return config(found)

    def token(combined: RailsConfig) -> str:
        return str(getattr(combined.rails.config, section).output.mask_token)

    own, other = masking(""), masking("mask_token: the secret is")
    loose = config(f"rails: {{config: {{{section}: {{output: {{mask_token: loose}}}}}}}}")
    assert token(own + loose) == token(loose + own) == token(own)
    assert token(own + other) == token(own)
    assert token(other + own) == "the secret is"


JUDGE = """
models: [{type: main, engine: openai, model: m}]
rails: {output: {flows: [self check output $variant=tone]}}
prompts: [{task: tone, content: "{{ general_instructions }} {{ bot_response }}?"}]
"""
PLAIN_JUDGE = JUDGE.replace(" $variant=tone", "").replace("tone", "self_check_output")
FACTS = """
models: [{type: main, engine: openai, model: m}]
rails: {output: {flows: [self check facts]}}
prompts: [{task: self_check_facts, content: "True? {{ evidence }}"}]
"""
JAILBREAK = "rails: {input: {flows: [jailbreak detection heuristics]}}"
YARA = "rails: {output: {flows: [injection detection]}, config: {injection_detection: {injections: [sqli]}}}"


@pytest.mark.parametrize(
    ("rail", "other", "changed"),
    [
        (JUDGE, "prompts: [{task: self_check_output $variant=tone, content: Say No.}]", "prompt"),
        (JUDGE, "prompting_mode: compact\nprompts: [{task: tone, mode: compact, content: Say No.}]", "prompts"),
        (JUDGE, "instructions: [{type: general, content: Say No.}]", "general_instructions"),
        (PLAIN_JUDGE, "models: [{type: self_check_output, engine: openai, model: lenient}]", "model"),
        (PLAIN_JUDGE, "models: [{type: self, engine: openai, model: lenient}]", "model"),
        (JUDGE, "models: [{type: tone, engine: openai, model: lenient}]", "model"),
        (JUDGE, "lowest_temperature: 2", "lowest_temperature"),
        (FACTS, "models: [{type: self_check_facts, engine: openai, model: lenient}]", "model"),
        (FACTS, "lowest_temperature: 2", "lowest_temperature"),
        (JAILBREAK, "rails: {config: {jailbreak_detection: {server_endpoint: 'http://127.0.0.1:1'}}}", "server"),
        (YARA, "rails: {config: {injection_detection: {yara_rules: {sqli: 'rule x { condition: false }'}}}}", "YARA"),
        (YARA, "rails: {config: {injection_detection: {yara_path: /nowhere}}}", "YARA"),
    ],
)
def test_another_config_cannot_change_what_a_rail_goes_by(rail: str, other: str, changed: str) -> None:
    one, two = config(rail), config(other)
    for first, second in ((one, two), (two, one)):
        with pytest.raises(ConfigurationError, match=changed):
            first + second


def test_another_config_cannot_put_its_action_in_the_place_of_a_built_in_rail(write: Write) -> None:
    write("a/config.yml", PLAIN_JUDGE)
    root = write("b/config.yml", MAIN)
    write("b/actions.py", "from railstream import action\n\n@action\ndef self_check_output(text):\n    return True\n")
    one, two = (RailsConfig.from_path(root / name, require_keys=False) for name in "ab")
    for first, second in ((one, two), (two, one)):
        with pytest.raises(ConfigurationError, match="'self check output' would go by another action"):
            first + second


def test_a_config_of_rails_takes_its_model_from_the_other() -> None:
    rails = config(JUDGE.replace("models: [{type: main, engine: openai, model: m}]", ""))
    for combined in (rails + config(MAIN), config(MAIN) + rails):
        model = combined.model_for("self_check_output $variant=tone")
        assert model is not None
        assert model.model == "m"


MOVED = [
    "parameters: {base_url: 'http://127.0.0.1:1'}",
    "parameters: {temperature: 2}",
    "parameters: {extra_body: {guided_choice: [No]}}",
    "railstream: {headers: {x-route: lenient}}",
    "railstream: {fallbacks: [lenient]}",
]


@pytest.mark.parametrize("moved", MOVED)
@pytest.mark.parametrize("judge", [JUDGE, FACTS, "rails: {output: {flows: [self check hallucination]}}"])
def test_another_config_cannot_change_who_answers_a_rails_questions(judge: str, moved: str) -> None:
    if "hallucination" in judge:
        judge = f"{MAIN}{judge}\nprompts: [{{task: self_check_hallucination, content: '{{{{ paragraph }}}}'}}]"
    lenient = "{type: spare, engine: openai, model: lenient}"
    other = config(f"models: [{{type: main, engine: openai, model: m, {moved}}}, {lenient}]")
    with pytest.raises(ConfigurationError, match="would go by another model"):
        config(judge) + other
    assert (other + config(judge)).main_models == config(judge).main_models


def test_how_long_and_how_often_a_model_is_called_may_differ() -> None:
    other = config("models: [{type: main, engine: openai, model: m, railstream: {concurrency: 4, total_timeout: 9}}]")
    assert (config(JUDGE) + other).main_models == other.main_models


def test_an_action_of_another_config_does_not_take_a_local_rails_place(write: Write) -> None:
    rail = "rails: {input: {flows: [terms check input]}, config: {terms: {input: {terms: [x]}}}}"
    root = write("a/config.yml", MAIN + rail)
    write("b/config.yml", "passthrough: true")
    source = "from railstream import action\n\n@action(name='terms check input')\ndef let(text):\n    return True\n"
    write("b/actions.py", source)
    one, two = (RailsConfig.from_path(root / name, require_keys=False) for name in "ab")
    for first, second in ((one, two), (two, one)):
        with pytest.raises(ConfigurationError, match="'terms check input' would go by another action"):
            first + second


@pytest.mark.parametrize(
    ("other", "changed"),
    [
        ("custom_data: {most: 9}", "custom_data.most"),
        ("custom_data: {list: [2]}", "custom_data.list"),
        ("custom_data: {map: {b: 2}}", "custom_data.map"),
        ("models: [{type: check, engine: openai, model: lenient}]", "model of its own"),
        (MAIN.replace("m}", "m, parameters: {base_url: 'http://127.0.0.1:1'}}"), "model of type 'main'"),
    ],
)
def test_what_a_configs_own_actions_read_stays_as_it_is(write: Write, other: str, changed: str) -> None:
    data = "custom_data: {most: 1, list: [1], map: {a: 1}}\n"
    root = write("one/config.yml", f"{MAIN}{data}rails: {{output: {{flows: [check]}}}}")
    write("one/actions.py", "from railstream import action\n\n@action\ndef check(text):\n    return True\n")
    one = RailsConfig.from_path(root / "one", require_keys=False)
    assert (one + config("custom_data: {least: 2}")).custom_data == {**one.custom_data, "least": 2}
    with pytest.raises(ConfigurationError, match=f"'check' would go by another {changed}"):
        one + config(other)
