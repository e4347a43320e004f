"""The text that came before a failure: the model's own at its port, and above the rails only what they let through."""

from __future__ import annotations

from typing import Any

import pytest
from contract.llm_rig import KEY, asked, listen, model_on
from railstream import CallError, LLMRails, RailsConfig
from railstream.testing import Script, Upstream

SECRET = "never said"


def rails_on(upstream: Upstream, **main: Any) -> LLMRails:
    where = {"base_url": upstream.url, "api_key": KEY}
    models = [
        {"type": "main", "engine": "openai", "model": "m-1", "parameters": where, "railstream": main},
        {"type": "spare", "engine": "openai", "model": "m-2", "parameters": where},
    ]
    checked = {"output": {"patterns": [SECRET]}}
    output = {"flows": ["regex check output"], "streaming": {"enabled": True}}
    rails = {"output": output, "config": {"regex_detection": checked}}
    return LLMRails(RailsConfig.from_content(config={"models": models, "rails": rails}))


@pytest.mark.parametrize("fault", ["early_end", "reset", "error_during"])
async def test_an_answer_that_fails_raises_with_the_text_that_rails_let_through(upstream: Upstream, fault: Any) -> None:
    upstream.script = Script(words=12, fault=fault, at=6, rate=200)
    async with rails_on(upstream) as rails:
        with pytest.raises(CallError) as caught:
            await rails.generate_async(messages=[{"role": "user", "content": "Hi"}])
    said = "".join(Script(words=12).says()[:6])
    assert caught.value.partial
    assert said.startswith(caught.value.partial)


async def test_what_a_rail_keeps_back_is_in_no_partial_text(upstream: Upstream) -> None:
    """The text breaks off inside of what may become a match: the model said it, and no rail has let it through."""
    upstream.script = Script(deltas=("This is ", "fine, and ", "never s", "unheard"), fault="early_end", at=3)
    async with rails_on(upstream) as rails:
        with pytest.raises(CallError) as caught:
            await rails.generate_async(messages=[{"role": "user", "content": "Hi"}])
    assert caught.value.code == "truncated"
    assert "never" not in caught.value.partial


async def test_a_stand_in_is_not_asked_after_the_first_token_and_the_error_has_the_text(upstream: Upstream) -> None:
    upstream.models["m-1"] = Script(words=9, fault="early_end", at=4, rate=200)
    async with rails_on(upstream, fallbacks=["m-2"]) as rails:
        with pytest.raises(CallError) as caught:
            await rails.generate_async(messages=[{"role": "user", "content": "Hi"}])
    assert caught.value.code == "truncated"
    assert "".join(Script(words=9).says()[:4]).startswith(caught.value.partial or "nothing")
    assert [entry.model for entry in upstream.ledger] == ["m-1"]


async def test_of_several_choices_the_first_ones_text_is_carried(upstream: Upstream) -> None:
    model = model_on(upstream, "openai")
    heard = await listen(model, asked(words=4, n=2, fault="early_end", at=4))
    await model.aclose()
    assert heard.failed.partial == "".join(Script(words=4).says()[:2])


async def test_a_program_is_told_that_its_own_limits_refused_a_call(upstream: Upstream) -> None:
    upstream.script = Script(words=2)
    async with rails_on(upstream, requests_per_minute=1, queue_timeout=1) as rails:
        asked_once = [{"role": "user", "content": "Hi"}]
        await rails.generate_async(messages=asked_once)
        with pytest.raises(CallError) as caught:
            await rails.generate_async(messages=asked_once)
    assert (caught.value.code, caught.value.partial) == ("rate_limited", "")
    assert len(upstream.ledger) == 1
