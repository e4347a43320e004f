"""The schema: NeMo Guardrails' keys and defaults, ours beside them, and nothing that is merely ignored."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError
from railstream.config import RailsConfig
from railstream.errors import ConfigurationError

Refusal = Callable[[str], str]


def config(text: str) -> RailsConfig:
    return RailsConfig.from_content(yaml_content=text)


def test_an_empty_config_has_the_defaults() -> None:
    empty = config("")
    streaming = empty.rails.output.streaming
    assert (streaming.enabled, streaming.chunk_size, streaming.context_size) == (False, 200, 50)
    assert streaming.stream_first is False
    assert streaming.strategy == "documented"
    assert empty.models == ()
    assert empty.general_instructions.startswith("Below is a conversation")
    assert empty.railstream.on_violation is None
    assert empty.railstream.on_worker_loss is None
    assert empty.railstream.allow_request_rails is None


def test_the_positional_order_of_from_content_is_nemos() -> None:
    assert RailsConfig.from_content(None, "passthrough: true", {"passthrough": False}).passthrough is True


def test_keys_without_a_value_mean_the_default() -> None:
    assert config("models:\nrails:\n  output:\n    flows:\n    streaming:\n").rails.output.flows == ()


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        config("").passthrough = True  # type: ignore[misc]


def test_every_nemo_key_of_the_seeds_is_accepted() -> None:
    loaded = config(
        """
        models:
          - {type: main, engine: openai, model: gpt-4o-mini, parameters: {temperature: 0.2}, mode: chat}
          - {type: content_safety, engine: nim, model: guard, cache: {enabled: true, stats: {enabled: true}}}
          - {type: embeddings, engine: FastEmbed, model: all-MiniLM-L6-v2}
        instructions: [{type: general, content: Be kind.}]
        sample_conversation: "user: hi"
        streaming: True
        lowest_temperature: 0.1
        prompting_mode: standard
        colang_version: "1.0"
        passthrough: False
        enable_rails_exceptions: True
        custom_data: {anything: {at: all}}
        tracing: {enabled: true, adapters: [{name: OpenTelemetry, any: thing}], span_format: legacy}
        metrics: {enabled: true}
        bot_messages: {refuse to respond: [No.]}
        rails:
          input: {flows: [], parallel: True, speculative_generation: True}
          output: {parallel: True, streaming: {enabled: True, chunk_size: 4, context_size: 2, stream_first: True}}
          retrieval: {flows: []}
          dialog: {single_call: {enabled: False}, user_messages: {embeddings_only: False}}
          actions: {instant_actions: []}
          tool_input: {flows: [], parallel: False}
          tool_output: {flows: []}
          config:
            regex_detection: {input: {patterns: [a+b]}, retrieval: {patterns: []}}
            sensitive_data_detection: {recognizers: [{name: x}], output: {entities: [PERSON], score_threshold: 0.4}}
            content_safety: {multilingual: {enabled: False}, reasoning: {enabled: True}}
            injection_detection: {injections: [sqli], action: omit}
            jailbreak_detection: {server_endpoint: "http://localhost:1337/heuristics"}
        """.replace("\n        ", "\n")
    )
    assert loaded.rails.output.streaming.chunk_size == 4
    assert loaded.refusal() == "No."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modles: []", "yaml_content: modles: unknown key; did you mean 'models'?"),
        (
            "rails: {output: {streaming: {chunksize: 3}}}",
            "yaml_content: rails.output.streaming.chunksize: unknown key; did you mean 'chunk_size'?",
        ),
        (
            "models: [{type: main, engine: openai, model: m, api_key_env: X}]",
            "yaml_content: models[0].api_key_env: unknown key; did you mean 'api_key_env_var'?",
        ),
        (
            "rails: {config: {pii_patterns: {output: {entites: []}}}}",
            "yaml_content: rails.config.pii_patterns.output.entites: unknown key; did you mean 'entities'?",
        ),
        ("railstream: {deadlines: {zzz: 1}}", "known are between_chunks, connect, first_token, total"),
    ],
)
def test_an_unknown_key_is_refused_with_its_place_and_the_nearest_known(
    text: str, message: str, refusal: Refusal
) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flows: [{name: x}]", "Colang"),
        ("colang_version: '2.x'", "Colang"),
        ("knowledge_base: {folder: kb}", "no knowledge base"),
        ("import_paths: [../other]", "combine configs by their ids"),
        ("actions_server_url: http://x", "actions.py"),
        ("rails: {retrieval: {flows: [check retrieved]}}", "no retrieval step"),
        ("rails: {dialog: {single_call: {enabled: true}}}", "rails.dialog.single_call.enabled: True is not supported"),
        ("rails: {config: {gliner: {server_endpoint: 'http://x'}}}", "rails.config.gliner: is not supported here"),
        ("rails: {config: {content_safety: {multilingual: {enabled: true}}}}", "language of a message"),
        ("bot_messages: {refuse to answer: [x]}", "did you mean 'refuse to respond'?"),
        ("models: [{type: main, engine: openai, model: m, mode: text}]", "'text'"),
    ],
)
def test_what_is_not_supported_is_refused_with_the_reason(text: str, message: str, refusal: Refusal) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rails: {output: {streaming: {chunk_size: 0}}}", "chunk_size: should be greater than or equal to 1; got 0"),
        ("rails: {output: {streaming: {context_size: -1}}}", "rails.output.streaming.context_size: should be greater"),
        ("rails: {output: {streaming: {strategy: both}}}", "rails.output.streaming.strategy"),
        ("rails: {output: {streaming: {chunk_size: 5, first_chunk_size: 6}}}", "first_chunk_size 6 is over"),
        ("rails: {output: {streaming: {strategy: rolling, first_chunk_size: 6}}}", "of one size"),
        ("railstream: {on_violation: explode}", "'content_filter' or 'refusal'; got 'explode'"),
        ("railstream: {deadlines: {total: 0}}", "railstream.deadlines.total: should be greater than 0"),
        ("railstream: {pool: 'a b'}", "railstream.pool: 'a b' may hold"),
        ("railstream: {prices: {gpt-4o: {input: 1, output: 2}}}", "railstream.prices.gpt-4o: 'gpt-4o' is no model"),
        ("rails: []", "rails: must be a mapping of keys, not list"),
        ("- a", "must be a mapping of keys, not list"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(text: str, message: str, refusal: Refusal) -> None:
    assert message in refusal(text)


def test_all_problems_are_told_at_once(refusal: Refusal) -> None:
    assert len(refusal("modles: []\nrails: {input: {flow: []}}").splitlines()) == 1  # a wrong top level hides the rest
    assert len(refusal("rails: {input: {flow: []}, output: {flow: []}}").splitlines()) == 2


def test_a_bad_pattern_is_refused_with_its_position(refusal: Refusal) -> None:
    message = refusal("rails: {config: {regex_detection: {output: {patterns: [fine, 'a(b']}}}}")
    assert "rails.config.regex_detection.output.patterns[1]: bad pattern 'a(b' at position 1" in message


def test_a_pattern_that_matches_everything_is_refused(refusal: Refusal) -> None:
    assert "matches the empty text" in refusal("rails: {config: {regex_detection: {input: {patterns: ['a*']}}}}")


def test_colang_content_is_refused_with_the_supported_way() -> None:
    with pytest.raises(ConfigurationError, match=r"@action in `actions.py`"):
        RailsConfig.from_content("define flow x\n  bot y")
    assert RailsConfig.from_content("  \n").models == ()


def test_secrets_of_a_config_stay_out_of_error_messages(refusal: Refusal) -> None:
    text = "models: [{type: main, engine: nope, model: m, parameters: {api_key: sk-very-secret}}]"
    assert "sk-very-secret" not in refusal(text)
