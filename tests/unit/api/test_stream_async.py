"""`stream_async`: what its chunks are, how it ends, and what is closed when it is left."""

from __future__ import annotations

import asyncio
import gc
import json
from contextlib import aclosing
from typing import Any

import pytest
from railstream import CallError, LLMRails, StreamingNotSupportedError
from railstream.errors import InvalidRequestError
from railstream.events import Blocked, Finished
from railstream.testing import Script, Upstream

FORBIDDEN = (
    '{"error": {"message": "Blocked by terms check output rails.", "type": "guardrails_violation", '
    '"param": "terms check output", "code": "content_blocked"}}'
)
REFUSAL = "I'm sorry, I can't respond to that."
LONG = Script(words=200, hold=5)


async def read(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


async def test_a_chunk_is_a_delta_byte_for_byte(build_rails: Any, ask: Any) -> None:
    deltas = [" Hi", "  there", '"', "\n", "\u00fc\U0001f600"]
    rails = build_rails(deltas=deltas)
    assert await read(rails.stream_async(messages=ask)) == deltas
    assert await read(rails.stream_async(prompt="Say something.")) == deltas


async def test_text_that_looks_like_control_is_text(build_rails: Any, ask: Any, terms: Any) -> None:
    deltas = ["{}", FORBIDDEN.replace("terms", "other"), "data: [DONE]\n\n", "[DONE]", " more"]
    assert await read(build_rails(deltas=deltas).stream_async(messages=ask)) == deltas
    guarded = build_rails(deltas=deltas, rails=terms)
    assert "".join(await read(guarded.stream_async(messages=ask))) == "".join(deltas)
    *texts, outcome = await read(guarded.stream_events_async(messages=ask))
    assert "".join(texts) == "".join(deltas)
    assert isinstance(outcome, Finished)


async def test_a_violation_is_one_last_chunk(build_rails: Any, ask: Any, terms: Any, upstream: Upstream) -> None:
    rails = build_rails(Script(deltas=("It is ", "for", "bidden", *[" more"] * 100), hold=10), rails=terms)
    assert await read(rails.stream_async(messages=ask)) == ["It is ", FORBIDDEN]
    entry, *_ = await upstream.ledger.wait(ended=1)
    assert entry.outcome == "closed_by_client", "nobody pays for the rest of a blocked answer"


async def test_a_violation_as_a_typed_event(build_rails: Any, ask: Any, terms: Any) -> None:
    rails = build_rails(deltas=["It is ", "forbidden"], rails=terms)
    text, outcome = await read(rails.stream_events_async(messages=ask))
    assert text == "It is "
    assert isinstance(outcome, Blocked)
    assert (outcome.flow, outcome.stage) == ("terms check output", "output")


@pytest.mark.parametrize(
    ("form", "last"), [("error", FORBIDDEN), ("refusal", REFUSAL), ("content_filter", FORBIDDEN), (None, FORBIDDEN)]
)
async def test_the_config_chooses_the_form_of_a_violation(
    build_rails: Any, ask: Any, terms: Any, form: str | None, last: str
) -> None:
    rails = build_rails(deltas=["It is ", "forbidden"], rails=terms, railstream={"on_violation": form} if form else {})
    assert await read(rails.stream_async(messages=ask)) == ["It is ", last]


async def test_a_rail_that_fails_blocks_with_its_own_error(build_rails: Any, ask: Any) -> None:
    rails = build_rails(
        deltas=["a", "b"], rails={"output": {"flows": ["check prices"], "streaming": {"enabled": True}}}
    )

    def check_prices(bot_message: str) -> bool:
        raise OSError("the price list is gone")

    rails.register_action(check_prices)
    (chunk,) = await read(rails.stream_async(messages=ask))
    assert json.loads(chunk)["error"] == {
        "message": "Internal error in check prices rail: it raised OSError",
        "type": "internal_error",
        "param": "check prices",
        "code": "rail_execution_failure",
    }


async def test_an_input_refusal_is_one_chunk_and_no_call(build_rails: Any, terms: Any, upstream: Upstream) -> None:
    rails = build_rails(rails=terms)
    assert await read(rails.stream_async(prompt="Say forbidden things.")) == [REFUSAL]
    assert len(upstream.ledger) == 0


async def test_exceptions_mode_never_gives_an_empty_stream(build_rails: Any, terms: Any) -> None:
    rails = build_rails(rails=terms, enable_rails_exceptions=True)
    (chunk,) = await read(rails.stream_async(prompt="Say forbidden things."))
    assert json.loads(chunk)["error"]["param"] == "terms check input"


async def test_what_the_provider_refuses_is_a_downstream_error(build_rails: Any, ask: Any) -> None:
    rails = build_rails(Script(fault="error_before", status=429))
    (chunk,) = await read(rails.stream_async(messages=ask))
    error = json.loads(chunk)["error"]
    assert (error["type"], error["code"], error["param"]) == ("downstream_error", 429, None)


@pytest.mark.parametrize("fault", ["error_during", "early_end", "reset"])
async def test_what_breaks_during_the_answer_follows_what_was_said(build_rails: Any, ask: Any, fault: Any) -> None:
    rails = build_rails(Script(deltas=("a", "b", "c", "d"), fault=fault, at=2, rate=50))
    *texts, chunk = await read(rails.stream_async(messages=ask))
    assert texts == ["a", "b"]
    error = json.loads(chunk)["error"]
    assert error["type"] == "generation_error"
    assert error["param"] is None
    assert error["message"]


class Broken:
    """A model of the caller's own that raises what it likes."""

    name, provider, address, port = "broken", "mine", "", 0

    def __init__(self, message: str) -> None:
        self._message = message

    async def stream(self, call: Any) -> Any:
        raise RuntimeError(self._message)
        yield []

    async def aclose(self) -> None:
        return None


async def test_secrets_do_not_travel_with_an_error(build_rails: Any, ask: Any) -> None:
    config = build_rails().config
    rails = LLMRails(config, llm=Broken("bad key sk-abcdefghijkl at https://host.example/v1, Bearer abcdef"))
    (chunk,) = await read(rails.stream_async(messages=ask))
    assert json.loads(chunk)["error"] == {
        "message": "bad key *** at [redacted-url] ***",
        "type": "generation_error",
        "param": None,
        "code": "generation_failed",
    }
    with pytest.raises(CallError):
        await rails.generate_async(messages=ask)


def test_output_rails_that_do_not_stream_are_refused_at_the_call(build_rails: Any, ask: Any, terms: Any) -> None:
    rails = build_rails(rails=terms | {"output": {"flows": ["terms check output"]}})
    with pytest.raises(StreamingNotSupportedError, match=r"rails\.output\.streaming\.enabled.*generate_async\(\)"):
        rails.stream_async(messages=ask)
    assert issubclass(StreamingNotSupportedError, ValueError)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "got neither"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "got both"),
        ({"messages": []}, "must not be empty"),
        ({"messages": "Hello"}, "must be a list, got str"),
        ({"messages": [{"role": "robot", "content": ""}]}, r"messages\[0\].role is 'robot'"),
        ({"prompt": "a", "options": {"lgo": {}}}, "options.lgo is not an option; did you mean 'log'"),
        ({"prompt": "a", "options": {"log": {"llm_cals": True}}}, "options.log.llm_cals .* did you mean 'llm_calls'"),
        ({"prompt": "a", "options": {"log": {"colang_history": True}}}, "no Colang runtime"),
        ({"prompt": "a", "state": {"events": []}}, "state is Colang's"),
        ({"generator": ["a"]}, "must be an async iterator of strings, got list"),
    ],
)
def test_what_is_wrong_is_said_at_the_call(build_rails: Any, given: Any, problem: str) -> None:
    with pytest.raises(InvalidRequestError, match=problem):
        build_rails().stream_async(**given)


async def test_metadata_is_filled_by_the_last_element(build_rails: Any, ask: Any) -> None:
    rails = build_rails(deltas=["Hello", "!"])
    assert await read(rails.stream_async(messages=ask, include_metadata=True)) == [
        {"text": "Hello"},
        {"text": "!"},
        {
            "text": "",
            "metadata": {
                "response_metadata": {"finish_reason": "stop", "model_name": "testing"},
                "usage_metadata": {"input_tokens": 2, "output_tokens": 2, "total_tokens": 4},
            },
        },
    ]


async def test_metadata_stays_with_output_rails(build_rails: Any, ask: Any, terms: Any) -> None:
    rails = build_rails(deltas=["Hello", "!"], rails=terms)
    *texts, last = await read(rails.stream_async(messages=ask, include_metadata=True))
    assert texts == [{"text": "Hello"}, {"text": "!"}]
    assert last["metadata"]["usage_metadata"]["total_tokens"] == 4


async def test_usage_is_none_when_the_provider_sends_none(build_rails: Any, ask: Any) -> None:
    rails = build_rails(Script(deltas=("Hello",), usage="never", finish_reason="length"))
    *_, last = await read(rails.stream_async(messages=ask, include_metadata=True))
    assert last["metadata"] == {
        "response_metadata": {"finish_reason": "length", "model_name": "testing"},
        "usage_metadata": None,
    }


async def test_a_violation_with_metadata_still_ends_with_the_metadata(build_rails: Any, ask: Any, terms: Any) -> None:
    rails = build_rails(deltas=["forbidden"], rails=terms)
    violation, last = await read(rails.stream_async(messages=ask, include_metadata=True))
    assert violation == {"text": FORBIDDEN}
    assert last["metadata"]["response_metadata"]["finish_reason"] == "content_filter"


async def test_the_old_name_of_include_metadata_warns(build_rails: Any, ask: Any) -> None:
    rails = build_rails(deltas=["Hello"])
    with pytest.warns(DeprecationWarning, match="use include_metadata"):
        stream = rails.stream_async(messages=ask, include_generation_metadata=True)
    assert (await read(stream))[0] == {"text": "Hello"}


async def leave_by_break(rails: LLMRails, ask: Any) -> None:
    async for _ in rails.stream_async(messages=ask):
        break
    gc.collect()


async def leave_by_aclose(rails: LLMRails, ask: Any) -> None:
    async with aclosing(rails.stream_async(messages=ask)) as stream:
        await anext(stream)


async def leave_by_cancel(rails: LLMRails, ask: Any) -> None:
    begun = asyncio.Event()

    async def reading() -> None:
        async for _ in rails.stream_async(messages=ask, include_metadata=True):
            begun.set()

    task = asyncio.create_task(reading())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_by_timeout(rails: LLMRails, ask: Any) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await rails.generate_async(messages=ask)


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_aclose, leave_by_cancel, leave_by_timeout])
@pytest.mark.parametrize("guarded", [False, True])
async def test_whoever_leaves_closes_the_upstream(
    build_rails: Any, ask: Any, terms: Any, upstream: Upstream, leave: Any, guarded: bool
) -> None:
    rails = build_rails(LONG, rails=terms if guarded else {})
    await leave(rails, ask)
    (entry,) = await upstream.ledger.wait(ended=1, timeout=5)
    assert entry.outcome == "closed_by_client"
    assert entry.tokens < 200
    (call,) = rails.explain().llm_calls or [None]
    assert call is None or call.task == "general"


async def test_nothing_is_asked_before_the_first_step(build_rails: Any, ask: Any, upstream: Upstream) -> None:
    stream = build_rails().stream_async(messages=ask)
    await asyncio.sleep(0)
    await stream.aclose()
    assert len(upstream.ledger) == 0


async def test_a_slow_reader_slows_the_provider_down(build_rails: Any, ask: Any, upstream: Upstream) -> None:
    rails = build_rails(Script(deltas=("x" * 10_000,) * 3_000))
    async with aclosing(rails.stream_async(messages=ask)) as stream:
        await anext(stream)
        for _ in range(300):
            await asyncio.sleep(0.001)
        (entry,) = upstream.ledger.calls()
        assert entry.outcome == "open", "thirty megabytes are not taken for a reader that took one chunk"


async def test_context_messages_are_for_rails_and_not_for_the_model(build_rails: Any, upstream: Upstream) -> None:
    seen: dict[str, Any] = {}
    rails = build_rails(deltas=["Hi"], rails={"input": {"flows": ["check tenant"]}})

    async def check_tenant(context: Any) -> bool:
        seen.update(context)
        return True

    rails.register_action(check_tenant)
    messages = [{"role": "context", "content": {"tenant": "acme"}}, {"role": "user", "content": "Hello"}]
    assert await read(rails.stream_async(messages=messages)) == ["Hi"]
    assert seen["tenant"] == "acme"
    body = upstream.ledger[0].body
    assert body is not None
    assert body["messages"] == [{"role": "user", "content": "Hello"}]
