"""OpenAI's wire as Google serves it for Gemini models: the same words, and less of what its own API says.

A stream that called tools ends with ``stop``; usage is on every chunk, and thoughts are only in its total; a call
comes whole, with its signature under ``extra_content``; an error before the answer is a list of one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from railstream.testing import content
from railstream.testing.answer import Delta
from railstream.testing.frames import DONE, ChatWire

if TYPE_CHECKING:
    from railstream.testing.call import Call

_encode = msgspec.json.encode
FINISH_REASONS: Final = {"tool_calls": "stop", "content_filter": "content_filter: SAFETY"}


class GeminiChatWire(ChatWire):
    request_id_header = ""

    def frames(self, call: Call) -> GeminiChatFrames:  # type: ignore[override]  # neither is the other's kind
        return GeminiChatFrames(call)

    def whole(self, call: Call, usage: Mapping[str, Any] | None) -> dict[str, Any]:
        return super().whole(call, usage and without_thoughts(usage))

    def wrong_key(self) -> tuple[int, Any]:
        status, said = content.ContentWire().wrong_key()
        return status, [said]

    def error(self, message: str, status: int) -> Any:
        return content.error(message, status)

    def refusal(self, message: str, status: int, retry_after: float | None) -> tuple[Any, dict[str, str]]:
        said, headers = content.ContentWire().refusal(message, status, retry_after)
        return [said], headers


def without_thoughts(usage: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's usage object as Google fills it."""
    thoughts = usage["completion_tokens_details"]["reasoning_tokens"]
    said = {"prompt_tokens": usage["prompt_tokens"], "completion_tokens": usage["completion_tokens"] - thoughts}
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    details = {"prompt_tokens_details": {"cached_tokens": cached}} if cached else {}
    return {**said, "total_tokens": usage["total_tokens"], **details}


class GeminiChatFrames:
    """Thoughts are not shown; a call is held back until its last piece is there."""

    named = False

    def __init__(self, call: Call) -> None:
        self._call = call
        self._created = int(time.time())
        self._pending: dict[str, Any] = {}
        self._signed = False
        self._choice = 0

    def opening(self) -> list[bytes]:
        return []

    def delta(self, delta: Delta, encoded: bytes, written: int) -> list[bytes]:
        said = msgspec.json.decode(encoded)
        if calls := said.get("tool_calls"):
            return self._tool(delta.choice, calls[0], written)
        if text := said.get("content"):
            return [*self._flush(written), self._chunk(delta.choice, {"content": text}, written)]
        return []

    def _tool(self, choice: int, fragment: Mapping[str, Any], written: int) -> list[bytes]:
        if not fragment.get("id"):
            self._pending["function"]["arguments"] += fragment["function"].get("arguments", "")
            return []
        before = self._flush(written)
        self._choice, self._pending = choice, {**fragment, "function": dict(fragment["function"])}
        return before

    def _flush(self, written: int) -> list[bytes]:
        if not self._pending:
            return []
        call, self._pending = self._pending, {}
        if not self._signed:
            self._signed = True
            call["extra_content"] = {"google": {"thought_signature": content.SIGNATURE}}
        return [self._chunk(self._choice, {"tool_calls": [call]}, written)]

    def ending(self, written: int, *, signal: bool) -> list[bytes]:
        held = self._flush(written)
        for choice, told in enumerate(self._call.answer.finish_reasons):
            held.append(self._chunk(choice, {}, written, FINISH_REASONS.get(told, told)))
        return [*held, DONE] if signal else held

    def _chunk(self, choice: int, delta: Mapping[str, Any], written: int, reason: str = "") -> bytes:
        said = {"delta": {"role": "assistant", **delta}, "index": choice} | (
            {"finish_reason": reason} if reason else {}
        )
        chunk = {"id": self._call.id, "object": "chat.completion.chunk", "created": self._created}
        chunk |= {"model": self._call.entry.model, "choices": [said]}
        usage = {"usage": without_thoughts(self._call.usage(written))} if self._call.sends_usage else {}
        return _encode(chunk | usage)
