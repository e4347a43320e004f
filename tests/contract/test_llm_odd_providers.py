"""What odd providers do, as the testing upstream can be told to do it: each is read for what it is."""

from __future__ import annotations

from typing import Any

import pytest
from contract.llm_rig import asked, listen, model_on
from railstream.testing import Upstream, text

TOOLS: list[dict[str, Any]] = [
    {"name": "weather", "arguments": {"city": "Bern"}, "id": "a"},
    {"name": "time", "arguments": {"zone": "CET"}, "id": "b"},
]


@pytest.mark.parametrize("fault", ["cr", "crlf", "bom", "comments", "ids"])
async def test_lines_are_read_as_the_standard_says(upstream: Upstream, fault: str) -> None:
    heard = await listen(model_on(upstream, "openai"), asked(words=9, fault=fault))
    assert (heard.error, heard.text) == (None, text.text(0, 9))


@pytest.mark.parametrize("form", ["envelope", "object", "event", "field", "detail"])
async def test_an_error_is_one_in_every_form(upstream: Upstream, form: str) -> None:
    heard = await listen(model_on(upstream, "openai"), asked(words=9, fault="error_during", at=4, error_form=form))
    assert heard.failed.code == "provider"
    assert heard.text == text.text(0, 4)


@pytest.mark.parametrize("index", ["own", "zero", "none"])
async def test_parallel_tool_calls_are_told_apart(upstream: Upstream, index: str) -> None:
    heard = await listen(model_on(upstream, "openai"), asked(tool_calls=TOOLS, tool_index=index))
    assert heard.error is None
    calls = [(tool["id"], tool["name"], tool["arguments"]) for _, tool in sorted(heard.tools.items())]
    assert calls == [("a", "weather", '{"city":"Bern"}'), ("b", "time", '{"zone":"CET"}')]


async def test_usage_beside_the_output_is_counted_and_zeros_overwrite_nothing(upstream: Upstream) -> None:
    heard = await listen(model_on(upstream, "openai"), asked(words=5, reasoning=7, reasoning_beside=True, zeros=True))
    assert heard.error is None
    assert (heard.tokens[-1].output_tokens, heard.tokens[-1].reasoning_tokens) == (12, 7)


async def test_an_unknown_finish_reason_and_an_open_end_are_an_answer(upstream: Upstream) -> None:
    heard = await listen(model_on(upstream, "openai"), asked(words=5, finish_reason="abort", fault="open_end"))
    assert (heard.error, heard.finishes[0].reason) == (None, "abort")
