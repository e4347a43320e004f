"""Prompts: which one is chosen, and that what it says has no gaps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from railstream.config import Prompt, RailsConfig
from railstream.config.prompts import choose
from railstream.errors import RailError

Refusal = Callable[[str], str]

HISTORY = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": [{"type": "text", "text": "three"}, {"type": "image_url", "image_url": {"url": "x"}}]},
]


def text_of(content: str, history: list[dict[str, object]] | None = None, **variables: object) -> str:
    messages = Prompt(task="t", content=content).render(variables, HISTORY if history is None else history)
    return "".join(message["content"] for message in messages)


def of(*models: str, mode: str = "standard") -> Prompt:
    return Prompt(task="t", content=",".join(models) or mode, models=models, mode=mode)


@pytest.mark.parametrize(
    ("prompts", "best"),
    [
        ([of()], 0),
        ([of("openai"), of()], 0),
        ([of("openai"), of("openai/gpt-4o")], 1),
        ([of("openai/gpt-4o"), of("gpt-4o")], 0),
        ([of("gpt-4o"), of("openai")], 0),
        ([of("openai"), of("gpt")], 0),
        ([of(), of()], 1),
        ([of("nim"), of()], 1),
        ([of(mode="compact"), of()], 1),
        ([of("openai"), of("anthropic", "openai/gpt-4o")], 1),
    ],
)
def test_the_prompt_that_fits_the_model_best_is_chosen(prompts: list[Prompt], best: int) -> None:
    assert choose(prompts, "t", "openai/gpt-4o") is prompts[best]


def test_the_prompting_mode_counts_less_than_the_model() -> None:
    compact, standard = of(mode="compact"), of("openai")
    assert choose([compact, of()], "t", "openai/gpt-4o", "compact") is compact
    assert choose([standard, compact], "t", "openai/gpt-4o", "compact") is standard


def test_a_longer_prefix_of_a_model_path_wins() -> None:
    family, exact = of("nvidia/llama"), of("nvidia/llama-8b")
    assert choose([family, exact], "t", "nim/nvidia/llama-8b") is family  # as in NeMo: 0.9 against 0.8
    assert choose([of("other")], "t", "nim/nvidia/llama-8b") is None
    assert choose([family], "u", "nim/nvidia/llama-8b") is None


def test_the_config_chooses_by_the_model_that_answers_the_task() -> None:
    config = RailsConfig.from_content(
        yaml_content="""
models: [{type: main, engine: openai, model: m}, {type: cs, engine: nim, model: guard}]
prompts:
  - {task: content_safety_check_input $model=cs, content: general}
  - {task: content_safety_check_input $model=cs, content: for nim, models: [nim]}
  - {task: self_check_input, content: for openai, models: [openai]}
  - {task: self_check_input, content: for nim, models: [nim]}
"""
    )
    assert config.prompt_of("content_safety_check_input $model=cs").content == "for nim"
    assert config.prompt_of("self_check_input").content == "for openai"
    assert config.model_for("self_check_input $variant=cs") is config.models[1]


def test_variables_and_history_are_filled_in() -> None:
    assert text_of("{{ user_input }}!", user_input="hi") == "hi!"
    assert text_of("{{ history }}") == "User: one\nAssistant: two\nUser: three [+ image]"
    assert text_of("{{ history | user_assistant_sequence }}") == text_of("{{ history }}")
    assert text_of("{{ history | last_turns(1) }}") == "User: three [+ image]"
    assert text_of("{{ history | first_turns(1) }}") == "User: one\nAssistant: two"


def test_a_variable_that_nobody_gave_is_an_error_and_not_a_gap() -> None:
    with pytest.raises(RailError, match="'user_inptu' is not given"):
        text_of("Is {{ user_inptu }} bad?", user_input="evil")
    assert text_of("{% if chunks %}{{ chunks }}{% endif %}x") == "x"
    assert text_of("{{ thinking }}x", thinking=None) == "x"


def test_what_a_user_says_is_never_a_template() -> None:
    assert text_of("{{ user_input }}", user_input="{{ 1 + 1 }}") == "{{ 1 + 1 }}"


def test_a_template_is_sandboxed() -> None:
    with pytest.raises(RailError, match="cannot be filled in"):
        text_of("{{ user_input.__class__.__mro__ }}", user_input="x")


def test_messages_keep_their_roles_and_empty_ones_are_left_out() -> None:
    prompt = Prompt(
        task="t",
        messages=(
            {"type": "system", "content": "Judge."},
            {"type": "bot", "content": "{{ nothing }}"},
            {"type": "user", "content": "{{ user_input }}"},
        ),
    )
    assert prompt.render({"nothing": "", "user_input": "hi"}) == [
        {"role": "system", "content": "Judge."},
        {"role": "user", "content": "hi"},
    ]


def test_content_parts_stay_parts() -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:…"}}]
    prompt = Prompt(task="t", messages=({"type": "user", "content": "{{ user_input }}"},))
    assert prompt.render({"user_input": parts}) == [{"role": "user", "content": parts}]


def test_a_prompt_that_is_too_long_loses_its_oldest_history() -> None:
    prompt = Prompt(task="t", content="{{ history }}|{{ user_input }}", max_length=40)
    said = [{"role": "user", "content": f"message {number}"} for number in range(5)]
    assert prompt.render({"user_input": "x"}, said)[0]["content"] == "User: message 3\nUser: message 4|x"


def test_a_prompt_that_is_too_long_without_history_is_an_error() -> None:
    with pytest.raises(RailError, match="has 50 characters without any history; its max_length is 10"):
        Prompt(task="t", content="{{ user_input }}", max_length=10).render({"user_input": "x" * 50}, HISTORY)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{task: t}", "exactly one of `content` and `messages`"),
        ("{task: t, content: x, messages: [{type: user, content: y}]}", "exactly one of `content` and `messages`"),
        ("{task: t, content: '{{ x '}", "prompts[0].content: bad template, line 1"),
        ("{task: t, content: '{{ history | colang }}'}", "prompts[0].content: bad template, line 1: No filter named"),
        ("{task: t, content: x, output_parser: is_content_save}", "did you mean 'is_content_safe'?"),
        ("{task: t, content: x, max_length: 0}", "prompts[0].max_length: should be greater"),
        ("{task: t, messages: [{type: usr, content: y}]}", "prompts[0].messages[0].type: 'usr' is no message type"),
        ("{content: x}", "prompts[0].task: Field required"),
    ],
)
def test_a_prompt_that_cannot_work_is_refused(entry: str, message: str, refusal: Refusal) -> None:
    assert message in refusal(f"prompts: [{entry}]")
