"""The testing upstream is true to Google's wires: its own SDK reads the one, OpenAI's SDK the compatible one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import openai
import pytest
from railstream.testing import Script, Upstream, directive

genai = pytest.importorskip("google.genai", reason="google-genai, of the extra `dev`, is not installed")
errors = pytest.importorskip("google.genai.errors")

WEATHER = {
    "name": "weather",
    "parameters_json_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TOOLS = [{"name": "weather", "arguments": '{"city": "Zürich"}', "id": "call_1"}]


@pytest.fixture
async def sdk(upstream: Upstream) -> AsyncGenerator[Any, None]:
    where = {"base_url": upstream.google_url.removesuffix("/v1beta"), "api_version": "v1beta", "timeout": 5000}
    async with genai.Client(api_key="any", http_options=where).aio as client:
        yield client.models


@pytest.fixture
async def compatible(upstream: Upstream) -> AsyncGenerator[Any, None]:
    """OpenAI's SDK on the endpoint that Google keeps for it."""
    url = f"{upstream.google_url}/openai"
    async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0, timeout=5) as client:
        yield client.chat.completions


def asking(**script: Any) -> dict[str, Any]:
    return {"model": "gemini-3.8-flash", "contents": directive(**script)}


async def chunks_of(sdk: Any, config: dict[str, Any] | None = None, **script: Any) -> list[Any]:
    return [chunk async for chunk in await sdk.generate_content_stream(**asking(**script), config=config)]


def parts_of(chunks: list[Any]) -> list[Any]:
    return [part for chunk in chunks for part in chunk.candidates[0].content.parts]


async def test_googles_sdk_puts_an_answer_together(sdk: Any) -> None:
    script = {"words": 6, "reasoning": 3, "prompt_tokens": 20, "cached_tokens": 8, "tool_calls": TOOLS}
    config = {"tools": [{"function_declarations": [WEATHER]}], "automatic_function_calling": {"disable": True}}
    chunks = await chunks_of(sdk, config, **script)
    parts = parts_of(chunks)
    assert "".join(part.text or "" for part in parts if not part.thought) == "".join(Script(words=6).says())
    assert len([part for part in parts if part.thought]) == 3
    (called,) = [part for part in parts if part.function_call]
    call = called.function_call
    assert (call.id, call.name, call.args, bool(called.thought_signature)) == (
        "call_1", "weather", {"city": "Zürich"}, True,
    )  # fmt: skip
    assert [chunk.candidates[0].finish_reason for chunk in chunks if chunk.candidates[0].finish_reason] == ["STOP"]
    usage = chunks[-1].usage_metadata
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (20, 8)
    assert usage.thoughts_token_count == 3
    assert usage.total_token_count == 20 + usage.candidates_token_count + 3
    assert (chunks[0].model_version, bool(chunks[0].response_id)) == ("gemini-3.8-flash", True)


async def test_googles_sdk_reads_usage_on_every_chunk(sdk: Any) -> None:
    counts = [chunk.usage_metadata.candidates_token_count for chunk in await chunks_of(sdk, words=3)]
    assert counts == [1, 2, 3, 3]


async def test_googles_sdk_reads_a_whole_answer(sdk: Any) -> None:
    answer = await sdk.generate_content(**asking(words=5, reasoning=2, tool_calls=TOOLS))
    thought, text, call = answer.candidates[0].content.parts[:3]
    assert (thought.thought, len(thought.text.split())) == (True, 2)
    assert text.text == "".join(Script(words=5).says())
    assert call.function_call.args == {"city": "Zürich"}
    assert answer.candidates[0].finish_reason == "STOP"
    assert answer.usage_metadata.thoughts_token_count == 2


async def test_options_of_googles_sdk_are_taken(sdk: Any, upstream: Upstream) -> None:
    config = {
        "system_instruction": "Be brief.", "temperature": 0.5, "top_p": 0.9, "top_k": 40, "max_output_tokens": 4,
        "stop_sequences": ["END"], "response_mime_type": "application/json", "seed": 3,
        "response_json_schema": {"type": "object"}, "thinking_config": {"include_thoughts": True},
    }  # fmt: skip
    chunks = await chunks_of(sdk, config, words=9)
    assert chunks[-1].candidates[0].finish_reason == "MAX_TOKENS"
    body = upstream.ledger[-1].body
    assert body is not None
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["request"]["generationConfig"]["responseMimeType"] == "application/json"


async def test_an_answer_that_is_filtered_says_why_to_googles_sdk(sdk: Any) -> None:
    candidate = (await chunks_of(sdk, words=2, finish_reason="content_filter"))[-1].candidates[0]
    assert (candidate.finish_reason, candidate.safety_ratings[0].blocked) == ("SAFETY", True)


async def test_a_blocked_prompt_has_no_candidate_for_googles_sdk(sdk: Any) -> None:
    (chunk,) = await chunks_of(sdk, words=0, finish_reason="content_filter")
    assert (chunk.candidates, chunk.prompt_feedback.block_reason) == (None, "PROHIBITED_CONTENT")


@pytest.mark.parametrize(("status", "error"), [(429, "ClientError"), (503, "ServerError")])
async def test_an_error_in_mid_stream_reaches_googles_sdk_with_its_code(sdk: Any, status: int, error: str) -> None:
    with pytest.raises(getattr(errors, error)) as caught:
        await chunks_of(sdk, words=9, fault="error_during", at=2, status=status)
    assert caught.value.code == status


async def test_googles_sdk_takes_a_cut_stream_for_a_whole_one(sdk: Any) -> None:
    """Why our engine demands the end signal: if this fails, the SDK has learned it."""
    chunks = await chunks_of(sdk, words=9, fault="early_end", at=2)
    assert [chunk.candidates[0].finish_reason for chunk in chunks] == [None, None]


@pytest.mark.parametrize(
    ("status", "word"), [(400, "INVALID_ARGUMENT"), (429, "RESOURCE_EXHAUSTED"), (500, "INTERNAL")]
)
async def test_googles_sdk_knows_the_refusals(sdk: Any, status: int, word: str) -> None:
    with pytest.raises(errors.APIError) as caught:
        await chunks_of(sdk, fault="error_before", status=status, retry_after=7)
    assert (caught.value.code, caught.value.status) == (status, word)
    assert caught.value.details["error"]["details"][0]["retryDelay"] == "7s"


async def test_a_wrong_key_is_an_invalid_argument_with_a_reason() -> None:
    async with Upstream(api_key="another") as upstream:
        where = {"base_url": upstream.google_url.removesuffix("/v1beta"), "api_version": "v1beta"}
        async with genai.Client(api_key="any", http_options=where).aio as client:
            with pytest.raises(errors.ClientError) as caught:
                await client.models.generate_content(**asking(words=1))
    assert caught.value.code == 400
    assert caught.value.details["error"]["details"][0]["reason"] == "API_KEY_INVALID"


async def test_a_field_that_the_api_does_not_know_is_refused(sdk: Any) -> None:
    unknown = {"extra_body": {"generationConfig": {"temprature": 1}}}
    with pytest.raises(errors.ClientError, match="temprature"):
        await chunks_of(sdk, {"http_options": unknown}, words=1)


async def test_a_function_call_without_its_signature_is_refused(sdk: Any) -> None:
    call = {"function_call": {"id": "c", "name": "weather", "args": {}}}
    answer = {"function_response": {"id": "c", "name": "weather", "response": {"output": "sun"}}}

    def history(**part: Any) -> list[Any]:
        turns = [("user", {"text": directive(words=2)}), ("model", call | part), ("user", answer)]
        return [{"role": role, "parts": [part]} for role, part in turns]

    with pytest.raises(errors.ClientError, match="thought_signature"):
        await sdk.generate_content(model="gemini-3.8-flash", contents=history())
    signed = await sdk.generate_content(model="gemini-3.8-flash", contents=history(thought_signature=b"signed"))
    assert signed.text == "".join(Script(words=2).says())


def chatting(**script: Any) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": directive(**script)}], "stream_options": {"include_usage": True}}
    return {"model": "gemini-3.8-flash", "stream": True, **asked}


async def test_the_compatible_endpoint_says_stop_where_tools_were_called(compatible: Any) -> None:
    chunks = [chunk async for chunk in await compatible.create(**chatting(words=2, tool_calls=TOOLS))]
    (delta,) = [chunk.choices[0].delta for chunk in chunks if chunk.choices[0].delta.tool_calls]
    (call,) = delta.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "weather", TOOLS[0]["arguments"])
    assert call.model_extra["extra_content"]["google"]["thought_signature"]
    assert [reason for chunk in chunks if (reason := chunk.choices[0].finish_reason)] == ["stop"]


async def test_the_compatible_endpoint_hides_thoughts_in_the_total(compatible: Any) -> None:
    chunks = [chunk async for chunk in await compatible.create(**chatting(words=3, reasoning=4, prompt_tokens=9))]
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == "".join(Script(words=3).says())
    assert all(chunk.usage is not None for chunk in chunks)
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 3, 16)


async def test_the_compatible_endpoints_refusal_is_a_list(compatible: Any) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        await compatible.create(**chatting(fault="error_before", status=429, retry_after=3))
    (said,) = caught.value.body  # type: ignore[misc]
    assert (said["error"]["status"], said["error"]["details"][0]["retryDelay"]) == ("RESOURCE_EXHAUSTED", "3s")
