"""What the suites of the engines share: models as a config builds them, on the testing upstream, and what they say."""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from railstream.config import RailsConfig
from railstream.errors import CallError
from railstream.testing import Upstream, directive
from railstream_engine.models import build
from railstream_engine.providers.port import Call, ChatModel, Delta, Finish, ResponseInfo, TokenCount

KEY = "sk-testing-0123456789"
PLACES = {"google_genai": "v1beta", "gemini": "v1beta/openai"}
"""Where an engine's API stands on the upstream, when not under ``/v1``."""


def model_on(upstream: Upstream, engine: str, *, parameters: dict[str, Any] | None = None, **options: Any) -> ChatModel:
    """``options``: of the model's ``railstream`` section; it does not retry unless they say so."""
    url = f"http://{upstream.host}:{upstream.port}/{PLACES.get(engine, 'v1')}"
    where = {"base_url": url, "api_key": KEY} | (parameters or {})
    entry = {"type": "main", "engine": engine, "model": "m-1", "parameters": where}
    config = RailsConfig.from_content(config={"models": [entry | {"railstream": {"max_retries": 0} | options}]})
    return build(config.models[0], config.deadlines_of(config.models[0]))


def asked(*, id: str = "chatcmpl-test.1.1", params: dict[str, Any] | None = None, **script: Any) -> Call:
    """A call whose message carries the script of its answer."""
    return Call("m-1", [{"role": "user", "content": directive(**script)}], params or {}, request_id=id)


@dataclass
class Heard:
    """Everything that one call gave, in the order that matters to a reader."""

    text: str = ""
    reasoning: str = ""
    tools: dict[int, dict[str, str]] = field(default_factory=dict)
    finishes: list[Finish] = field(default_factory=list)
    tokens: list[TokenCount] = field(default_factory=list)
    infos: list[ResponseInfo] = field(default_factory=list)
    deltas: list[Delta] = field(default_factory=list)
    error: CallError | None = None

    def hear(self, delta: Delta) -> None:
        self.deltas.append(delta)
        self.text += delta.content
        self.reasoning += delta.reasoning
        for call in json.loads(delta.tools or b"[]"):
            tool = self.tools.setdefault(call["index"], {"id": "", "name": "", "arguments": ""})
            tool["id"] += call.get("id") or ""
            for name, said in (call.get("function") or {}).items():
                tool[name] += said or ""

    @property
    def failed(self) -> CallError:
        assert self.error is not None, f"the call ended well: {self}"
        return self.error


async def listen(model: ChatModel, call: Call, *, stop_after: int | None = None) -> Heard:
    """To the end, to the error, or until so many deltas were heard; then the stream is closed."""
    heard = Heard()
    try:
        async with aclosing(model.stream(call)) as stream:
            async for parts in stream:
                for part in parts:
                    if isinstance(part, Delta):
                        heard.hear(part)
                    elif isinstance(part, Finish):
                        heard.finishes.append(part)
                    elif isinstance(part, TokenCount):
                        heard.tokens.append(part)
                    elif isinstance(part, ResponseInfo):
                        heard.infos.append(part)
                if stop_after is not None and len(heard.deltas) >= stop_after:
                    break
    except CallError as error:
        heard.error = error
    return heard
