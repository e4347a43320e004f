"""What a provider says beside the delta reaches the client as from the provider itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from harness.stack import MODEL, Stack, model
from railstream.testing import Script

StartStack = Callable[..., Awaitable[Stack]]
EXTRA = {"system_fingerprint": "fp_1", "service_tier": "flex", "citations": ["http://x"]}
OF_CHOICE = {"stop_reason": 7, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}
TERMS = {"output": {"flows": ["terms check output"], "streaming": {"enabled": True}}}
CONFIGS: dict[str, Any] = {
    "main": {},
    "few": {"models": [model("", model="few", parameters={}, railstream={"keep_fields": ["service_tier"]})]},
    "guarded": {
        "models": [model("", model="guarded", parameters={})],
        "rails": TERMS | {"config": {"terms": {"output": {"terms": ["forbidden"]}}}},
    },
}
EXPECTED = {
    MODEL: (EXTRA, OF_CHOICE),
    "few": ({"service_tier": "flex"}, {}),
    "guarded": ({"system_fingerprint": "fp_1", "service_tier": "flex"}, OF_CHOICE),
}


async def test_fields_beside_the_delta_are_kept_as_the_config_says(
    start_stack: StartStack,
) -> None:
    stack = await start_stack(configs=CONFIGS)
    stack.upstream.script = Script(words=4, extra=EXTRA | {"unknown": 1}, choice_extra=OF_CHOICE | {"unknown": 1})
    for name, (extra, of_choice) in EXPECTED.items():
        async with stack.client() as client:
            answer = await client.chat.completions.create(model=name, messages=[{"role": "user", "content": "hi"}])
        assert _beside(answer.model_dump(exclude_unset=True)) == (extra, of_choice), name
        async with stack.ask(model=name, stream_options={"include_usage": True}) as stream:
            frames = [frame.json for frame in (await stream.read())[:-1]]
        assert _beside(frames[-2]) == (extra, of_choice), name
        assert {key: frames[-1][key] for key in extra} == extra


def _beside(chunk: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    known = {"id", "object", "created", "model", "choices", "usage"}
    of_choice = {"index", "delta", "message", "logprobs", "finish_reason"}
    (choice,) = chunk["choices"]
    return (
        {name: value for name, value in chunk.items() if name not in known},
        {name: value for name, value in choice.items() if name not in of_choice},
    )
