"""A model that recites: for a first look without any provider. It says what it is, and it counts words as tokens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence

import msgspec
from railstream.messages import last_text

from railstream_engine.providers.port import Call, Delta, Finish, Part, ResponseInfo, TokenCount

_WORDS = re.compile(r"\s*\S+")
_encode = msgspec.json.Encoder().encode

GREETING = (
    "This is Railstream's scripted demo model: no language model is behind it, and it only recites. "
    "You said: {prompt}. Each word of this answer was checked by the output rails of this config, written to its "
    "own Redis Stream, and relayed to you from there; cut the connection and resume it with Last-Event-ID to see. "
    "Set OPENAI_API_KEY and start again to talk to a real model."
)


class ScriptedModel:
    """``answers``: what it says, in turn, ``{prompt}`` filled in; ``words_per_second``: how fast, 0 for at once."""

    provider = "scripted"
    address = ""
    port = 0

    def __init__(self, name: str, *, answers: Sequence[str] = (), words_per_second: float = 25) -> None:
        self.name = name
        self._answers = tuple(answers) or (GREETING,)
        self._rate = words_per_second

    async def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]:
        """One part per word. An assistant message at the end is the beginning of the answer, which then goes on."""
        prompt = last_text(call.messages, "user")
        turn = sum(message.get("role") == "user" for message in call.messages)
        answer = self._answers[max(0, turn - 1) % len(self._answers)]
        text = answer.replace("{prompt}", prompt[:200])
        begun = last_text(call.messages[-1:], "assistant")
        words = _WORDS.findall(text[len(begun) :] if text.startswith(begun) else text)
        limit = call.params.get("max_completion_tokens") or call.params.get("max_tokens")
        cut = isinstance(limit, int) and limit < len(words)
        yield [ResponseInfo(model=self.name)]
        for word in words[:limit] if cut else words:
            yield [Delta(0, _encode({"content": word}), word, exact=True)]
            if self._rate:
                await asyncio.sleep(1 / self._rate)
        reason = "length" if cut else "stop"
        asked = sum(len(str(message.get("content", "")).split()) for message in call.messages)
        said = len(words[:limit] if cut else words)
        usage = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
        yield [Finish(0, reason, reason), TokenCount(asked, said, raw=usage)]

    async def aclose(self) -> None:
        return None
