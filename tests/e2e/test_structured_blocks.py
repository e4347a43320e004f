"""A blocked answer to a request for structured output is a refusal or a filter's finish, and never prose for JSON."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from harness.stack import MODEL, Stack
from pydantic import BaseModel
from railstream.testing import Script


class Answer(BaseModel):
    city: str


def config(on_violation: str) -> dict[str, Any]:
    return {
        "rails": {
            "output": {"flows": ["terms check output"], "streaming": {"enabled": True}},
            "config": {"terms": {"output": {"terms": ["forbidden"]}}},
        },
        "railstream": {"on_violation": on_violation},
    }


@pytest.fixture
async def blocking(start_stack: Any) -> Stack:
    stack: Stack = await start_stack(configs={form: config(form) for form in ("error", "refusal", "content_filter")})
    stack.upstream.script = Script(text='{"city": "forbidden town"}')
    return stack


QUESTION: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "response_format": Answer}


@pytest.mark.parametrize("form", ["error", "refusal"])
async def test_a_plain_block_is_a_refusal_that_the_sdk_knows(blocking: Stack, form: str) -> None:
    async with blocking.client() as client:
        parsed = await client.chat.completions.parse(**QUESTION, extra_body={"config_id": form})
    message = parsed.choices[0].message
    assert (message.parsed, message.content) == (None, None)
    assert message.refusal
    assert len(blocking.upstream.ledger) == 1


async def test_a_plain_block_as_a_content_filter_is_the_sdks_own_error(blocking: Stack) -> None:
    async with blocking.client() as client:
        with pytest.raises(openai.ContentFilterFinishReasonError):
            await client.chat.completions.parse(**QUESTION, extra_body={"config_id": "content_filter"})


async def test_a_streamed_refusal_stands_beside_the_text_and_not_in_it(blocking: Stack) -> None:
    async with (
        blocking.client() as client,
        client.chat.completions.stream(**QUESTION, extra_body={"config_id": "refusal"}) as stream,
    ):
        message = (await stream.get_final_completion()).choices[0].message
    assert message.refusal
    assert message.refusal not in (message.content or "")
    assert message.parsed is None


async def test_every_choice_of_a_stream_names_its_role(stack: Stack) -> None:
    stack.upstream.script = Script(words=3)
    async with stack.ask(n=3) as stream:
        frames = await stream.read()
    choices = [choice for frame in frames[:-1] for choice in frame.json["choices"]]
    firsts = [next(choice for choice in choices if choice["index"] == index) for index in range(3)]
    assert [first["delta"].get("role") for first in firsts] == ["assistant"] * 3
    assert sum("role" in choice["delta"] for choice in choices) == 3
