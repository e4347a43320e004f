"""What the named engines do otherwise than OpenAI, seen in the requests that reach the provider."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from contract.llm_rig import asked, listen, model_on
from railstream.config import Deadlines, Model, RailsConfig
from railstream.config.engines import ENGINES
from railstream.errors import ConfigurationError
from railstream.testing import Script, Upstream
from railstream_engine.models import build
from railstream_engine.providers.openai.events import ChunkReader
from railstream_engine.providers.port import Call, TokenCount

CHAT = sorted(name for name, engine in ENGINES.items() if engine.wire == "openai")


async def sent(upstream: Upstream, engine: str, call: Call, **options: Any) -> dict[str, Any]:
    """The body of the one request that a call makes."""
    upstream.script = Script(words=1)
    model = model_on(upstream, engine, **options)
    heard = await listen(model, call)
    await model.aclose()
    assert heard.error is None
    body = upstream.ledger[-1].body
    assert body is not None
    return body


def call(*, params: dict[str, Any] | None = None, task: str = "general", begun: str = "") -> Call:
    messages = [{"role": "user", "content": "Hi"}]
    if begun:
        messages.append({"role": "assistant", "content": begun})
    return Call("m-1", messages, params or {}, task=task)


@pytest.mark.parametrize("engine", CHAT)
async def test_every_openai_compatible_engine_streams(upstream: Upstream, engine: str) -> None:
    model = model_on(upstream, engine)
    heard = await listen(model, asked(words=4, usage="always"))
    await model.aclose()
    assert heard.error is None
    assert heard.tokens[-1].output_tokens == 4
    assert model.provider == engine


async def test_usage_is_asked_for_where_that_is_known(upstream: Upstream) -> None:
    assert (await sent(upstream, "openai", call()))["stream_options"] == {"include_usage": True}
    assert "stream_options" not in await sent(upstream, "mistral", call())
    body = await sent(upstream, "vllm", call(), continuous_usage=True)
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


async def test_an_option_is_sent_by_the_name_that_the_provider_knows(upstream: Upstream) -> None:
    body = await sent(upstream, "mistral", call(params={"seed": 3, "max_completion_tokens": 9}))
    assert (body["random_seed"], body["max_tokens"]) == (3, 9)
    assert not {"seed", "max_completion_tokens"} & body.keys()


async def test_a_begun_answer_is_gone_on_with_as_each_provider_wants_it(upstream: Upstream) -> None:
    vllm = await sent(upstream, "vllm", call(begun="One"))
    assert (vllm["continue_final_message"], vllm["add_generation_prompt"]) == (True, False)
    mistral = await sent(upstream, "mistral", call(begun="One"))
    assert mistral["messages"][-1] == {"role": "assistant", "content": "One", "prefix": True}
    assert "continue_final_message" not in await sent(upstream, "vllm", call())


async def test_azure_has_its_key_in_a_header_of_its_own() -> None:
    async with Upstream(api_key="sk-testing-0123456789") as upstream:
        assert (await sent(upstream, "azure", call()))["model"] == "m-1"


async def test_a_refused_option_is_an_error_that_names_it_and_nothing_is_sent(upstream: Upstream) -> None:
    model = model_on(upstream, "groq")
    heard = await listen(model, call(params={"logprobs": True}))
    await model.aclose()
    assert (heard.failed.code, heard.failed.param) == ("invalid_request", "logprobs")
    assert len(upstream.ledger) == 0


async def test_a_rails_call_lives_without_a_refused_option(upstream: Upstream) -> None:
    pytest.importorskip("anthropic", reason="the extra `anthropic` is not installed")
    body = await sent(upstream, "anthropic", call(params={"temperature": 0, "max_tokens": 3}, task="self_check_output"))
    assert "temperature" not in body
    assert body["max_tokens"] == 3


async def test_a_config_can_leave_out_what_a_model_refuses(upstream: Upstream) -> None:
    pytest.importorskip("anthropic", reason="the extra `anthropic` is not installed")
    body = await sent(upstream, "anthropic", call(params={"temperature": 1}), drops=["temperature"])
    assert "temperature" not in body


async def test_an_older_version_of_anthropics_api_takes_sampling_options(upstream: Upstream) -> None:
    pytest.importorskip("anthropic", reason="the extra `anthropic` is not installed")
    older = {"anthropic-version": "2023-06-01"}
    assert (await sent(upstream, "anthropic", call(params={"temperature": 0.5}), headers=older))["temperature"] == 0.5


def test_tools_that_end_with_stop_end_with_tool_calls_where_the_provider_means_it() -> None:
    """Gemini's compatible endpoint says `stop` in a stream, and `tool_calls` for the same answer as a whole."""
    chunk = b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t"}]},"finish_reason":"stop"}]}\n\n'
    reasons = [ChunkReader(tools_end_with_stop=quirk).feed(chunk)[-1].reason for quirk in (True, False)]  # type: ignore[union-attr]
    assert reasons == ["tool_calls", "stop"]


def only(**entry: Any) -> Model:
    return RailsConfig.from_content(config={"models": [{"type": "main", "model": "m", **entry}]}).models[0]


def test_azure_is_found_by_its_endpoint_deployment_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.example/")
    assert only(engine="azure").base_url == "https://mine.example/openai/v1"
    older = only(engine="azure", parameters={"api_version": "2024-10-21", "deployment_name": "dep"})
    assert older.base_url == "https://mine.example/openai/deployments/dep"
    assert older.query == {"api-version": "2024-10-21"}
    assert older.request_params == {}


def test_an_engine_whose_place_nobody_said_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    with pytest.raises(ConfigurationError, match="AZURE_OPENAI_ENDPOINT"):
        only(engine="azure")


def test_a_refused_option_in_the_config_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(ConfigurationError, match="'anthropic' refuses this option"):
        only(engine="anthropic", parameters={"temperature": 0})
    older = {"headers": {"anthropic-version": "2023-06-01"}}
    assert only(engine="anthropic", parameters={"temperature": 0}, railstream=older).request_params


@pytest.mark.parametrize(("engine", "library"), [("anthropic", "anthropic"), ("huggingface", "transformers")])
def test_a_missing_extra_is_an_error_that_names_it(engine: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(f"railstream_engine.providers.{engine}.model")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "testing")
    entry = only(engine=engine)
    with pytest.raises(ConfigurationError, match=rf"pip install 'railstream\[{engine}\]'"):
        build(entry, Deadlines())


def test_a_key_is_in_no_ones_repr() -> None:
    entry = only(engine="openai", parameters={"api_key": "secret-key"})
    model = build(entry, Deadlines())
    assert "secret-key" not in repr(vars(model)["_endpoint"])


def test_a_model_that_cannot_go_on_with_a_begun_answer_says_so_for_itself() -> None:
    config = RailsConfig.from_content(
        config={
            "models": [
                {"type": "main", "engine": "vllm", "model": "a"},
                {"type": "main", "engine": "vllm", "model": "b", "railstream": {"on_worker_loss": "fail"}},
            ]
        }
    )
    assert [config.on_worker_loss_of(name) for name in ("a", "b", "")] == ["continue", "fail", "continue"]


CONTINUING = {"vllm", "vllm_openai", "llamacpp", "mistral", "huggingface", "scripted"}


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_a_lost_answer_is_continued_by_default_only_where_the_engine_continues_one(engine: str) -> None:
    entry = {"type": "main", "engine": engine, "model": "m", "parameters": {"base_url": "http://127.0.0.1:1/v1"}}
    config = RailsConfig.from_content(config={"models": [entry]})
    assert config.on_worker_loss_of("m") == ("continue" if engine in CONTINUING else "fail")


async def test_tools_that_gemini_ends_with_stop_are_told_as_tool_calls(upstream: Upstream) -> None:
    model = model_on(upstream, "gemini")
    heard = await listen(model, asked(tool_calls=[{"name": "f", "arguments": "{}"}], finish_reason="stop"))
    await model.aclose()
    assert [(finish.reason, finish.raw_reason) for finish in heard.finishes] == [("tool_calls", "stop")]


@pytest.mark.parametrize("where", ["usage", "x_groq", "last chunk"])
def test_usage_is_found_wherever_a_provider_puts_it(where: str) -> None:
    usage = '{"prompt_tokens": 4, "completion_tokens": 2}'
    chunks = {
        "usage": '{"choices": [], "usage": %s}',
        "x_groq": '{"choices": [], "x_groq": {"usage": %s}}',
        "last chunk": '{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": %s}',
    }
    (count,) = [
        part
        for part in ChunkReader().feed(f"data: {chunks[where] % usage}\n\n".encode())
        if isinstance(part, TokenCount)
    ]
    assert (count.input_tokens, count.output_tokens) == (4, 2)


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_reasoning_is_read_by_either_name(upstream: Upstream, field: str) -> None:
    model = model_on(upstream, "vllm")
    heard = await listen(model, asked(words=1, reasoning=3, reasoning_field=field))
    await model.aclose()
    assert len(heard.reasoning.split()) == 3


@pytest.mark.parametrize(("said", "code"), [("error", "provider"), ("insufficient_system_resource", "overloaded")])
async def test_a_failure_that_is_told_as_a_finish_reason_is_a_failure(upstream: Upstream, said: str, code: str) -> None:
    model = model_on(upstream, "openrouter")
    heard = await listen(model, asked(words=3, finish_reason=said))
    await model.aclose()
    assert heard.text == "".join(Script(words=3).says())
    assert (heard.failed.code, heard.failed.provider_code) == (code, said)


@pytest.mark.parametrize(
    ("said", "reason"), [("model_length", "length"), ("STOP", "stop"), ("content_filter: SAFETY", "content_filter")]
)
async def test_other_words_for_an_end_are_known(upstream: Upstream, said: str, reason: str) -> None:
    model = model_on(upstream, "gemini")
    heard = await listen(model, asked(words=1, finish_reason=said))
    await model.aclose()
    assert [(finish.reason, finish.raw_reason) for finish in heard.finishes] == [(reason, said)]
