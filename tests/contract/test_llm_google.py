"""What only Google's own API says, heard through its engine; and what its models must be told again."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from contract.llm_rig import KEY, Heard, asked, listen, model_on
from railstream.testing import Script, ToolCall, Upstream
from railstream_engine.providers.google.request import UNSIGNED
from railstream_engine.providers.port import Call, ChatModel

WEATHER = ToolCall("weather", '{"city": "Zürich"}', "call_1")
CLOCK = ToolCall("clock", "{}", "call_2")


@pytest.fixture
async def model(upstream: Upstream) -> AsyncGenerator[ChatModel, None]:
    made = model_on(upstream, "google_genai")
    yield made
    await made.aclose()


def called(heard: Heard) -> list[dict[str, Any]]:
    """The calls of an answer as an OpenAI client keeps them."""
    return [call for delta in heard.deltas if delta.tools for call in msgspec.json.decode(delta.tools)]


async def test_a_blocked_prompt_is_content_filtered_and_not_asked_again(upstream: Upstream) -> None:
    model = model_on(upstream, "google_genai", max_retries=2)
    heard = await listen(model, asked(words=0, finish_reason="content_filter"))
    await model.aclose()
    error = heard.failed
    assert (error.code, error.status, error.provider_code) == ("content_filtered", 400, "PROHIBITED_CONTENT")
    assert len(upstream.ledger) == 1


async def test_an_answer_that_is_filtered_says_what_for(model: ChatModel) -> None:
    heard = await listen(model, asked(words=3, finish_reason="content_filter"))
    assert [(finish.reason, finish.raw_reason) for finish in heard.finishes] == [("content_filter", "SAFETY")]
    google = msgspec.json.decode(heard.deltas[-1].raw)["extra_content"]["google"]
    assert google["safety_ratings"][0]["category"] == "HARM_CATEGORY_DANGEROUS_CONTENT"
    assert heard.tokens[-1].output_tokens == 3


@pytest.mark.parametrize("reason", ["RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"])
async def test_all_reasons_of_filters_are_one_word(model: ChatModel, reason: str) -> None:
    heard = await listen(model, asked(words=2, finish_reason=reason))
    assert [(finish.reason, finish.raw_reason) for finish in heard.finishes] == [("content_filter", reason)]


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER", "WHATEVER_COMES"])
async def test_an_end_that_is_none_is_an_error_with_the_text_so_far(model: ChatModel, reason: str) -> None:
    heard = await listen(model, asked(words=2, finish_reason=reason))
    assert (heard.failed.code, heard.failed.provider_code) == ("provider", reason)
    assert heard.failed.partial == "".join(Script(words=2).says())
    assert heard.finishes == []


async def test_an_answer_that_called_functions_ends_with_tool_calls_and_one_that_did_not_with_stop(
    model: ChatModel,
) -> None:
    heard = await listen(model, asked(words=2, tool_calls=[{"name": "clock"}]))
    assert [(finish.reason, finish.raw_reason) for finish in heard.finishes] == [("tool_calls", "STOP")]
    heard = await listen(model, asked(words=2))
    assert [(finish.reason, finish.raw_reason) for finish in heard.finishes] == [("stop", "STOP")]


async def test_a_cancelled_call_has_the_usage_that_was_told_by_then(model: ChatModel) -> None:
    heard = await listen(model, asked(words=500, rate=100, prompt_tokens=9), stop_after=3)
    assert heard.tokens[-1].input_tokens == 9
    assert heard.tokens[-1].output_tokens >= 3


async def test_choices_are_told_apart(model: ChatModel) -> None:
    heard = await listen(model, asked(words=3, params={"n": 2}))
    assert [(finish.index, finish.reason) for finish in heard.finishes] == [(0, "stop"), (1, "stop")]
    assert {delta.index for delta in heard.deltas} == {0, 1}


async def test_one_choice_that_ended_is_not_the_end_of_all(upstream: Upstream, model: ChatModel) -> None:
    heard = await listen(model, asked(words=3, params={"n": 2}, fault="no_done"))
    assert heard.failed.code == "truncated"


async def test_what_a_model_signed_is_given_back_to_it(upstream: Upstream) -> None:
    """A Gemini 3 refuses a history of tools without its signatures: as they came is how a client gives them back."""
    model = model_on(upstream, "google_genai")
    upstream.models["gemini-3.8-pro"] = Script(tool_calls=(WEATHER, CLOCK))
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How is it in Zürich?"},
    ]
    heard = await listen(model, Call("gemini-3.8-pro", messages))
    calls = called(heard)
    assert ["extra_content" in call for call in calls] == [True, False]
    messages += [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"sky": "blue"}'},
        {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
    ]
    upstream.models["gemini-3.8-pro"] = Script(words=4)
    heard = await listen(model, Call("gemini-3.8-pro", messages))
    await model.aclose()
    assert heard.text == "".join(Script(words=4).says())
    body = upstream.ledger[-1].body
    assert body is not None
    sent = body["request"]
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [content["role"] for content in sent["contents"]] == ["user", "model", "user"]
    first, second = sent["contents"][1]["parts"]
    assert first["functionCall"] == {"id": "call_1", "name": "weather", "args": json.loads(WEATHER.json)}
    assert (bool(first["thoughtSignature"]), "thoughtSignature" in second) == (True, False)
    assert [part["functionResponse"] for part in sent["contents"][2]["parts"]] == [
        {"id": "call_1", "name": "weather", "response": {"sky": "blue"}},
        {"id": "call_2", "name": "clock", "response": {"output": "noon"}},
    ]


@pytest.mark.parametrize(("name", "signed"), [("gemini-3.8-pro", UNSIGNED), ("gemini-2.5-pro", None)])
async def test_calls_that_nobody_signed_are_marked_as_such_where_they_must_be(
    upstream: Upstream, model: ChatModel, name: str, signed: str | None
) -> None:
    """Another model made them, before it failed and this one stood in; or the client keeps no fields but OpenAI's."""
    upstream.script = Script(words=2)
    call = {"id": "c", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    answer = {"role": "tool", "tool_call_id": "c", "content": "noon"}
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [call, call]}, answer]
    heard = await listen(model, Call(name, messages))
    assert heard.text == "".join(Script(words=2).says())
    body = upstream.ledger[-1].body
    assert body is not None
    first, second = body["request"]["contents"][1]["parts"]
    assert (first.get("thoughtSignature"), second.get("thoughtSignature")) == (signed, None)


@pytest.mark.parametrize(("address", "asked_at"), [("", "/v1beta"), ("/v1", "/v1"), ("/v1beta/", "/v1beta")])
async def test_an_address_without_a_version_gets_the_usual_one(upstream: Upstream, address: str, asked_at: str) -> None:
    where = f"http://{upstream.host}:{upstream.port}{address}"
    model = model_on(upstream, "google", parameters={"base_url": where, "api_key": KEY})
    heard = await listen(model, asked(words=1))
    await model.aclose()
    assert (heard.error, model.provider) == (None, "google")
    assert str(vars(model)["_client"].base_url).rstrip("/").endswith(f"{upstream.port}{asked_at}")


async def test_the_compatible_endpoints_signatures_come_through_as_they_are(upstream: Upstream) -> None:
    model = model_on(upstream, "gemini")
    heard = await listen(model, asked(tool_calls=[{"name": "clock", "arguments": "{}"}]))
    await model.aclose()
    (call,) = called(heard)
    assert call["extra_content"]["google"]["thought_signature"]
