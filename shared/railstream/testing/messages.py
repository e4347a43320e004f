"""The wire of Anthropic's Messages, version 2026-10-21: named events, content blocks, usage in two places.

``input_tokens`` leaves out what the cache gave; output counts are cumulative; an error event has status 200.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from railstream.testing.answer import Delta
from railstream.testing.frames import retry_header

if TYPE_CHECKING:
    from railstream.testing.call import Call
    from railstream.testing.http import Request

_encode = msgspec.json.encode
STOP_REASONS: Final = {
    "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"
}  # fmt: skip
KINDS: Final = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error",
    529: "overloaded_error",
}  # fmt: skip
REFUSED: Final = ("temperature", "top_p", "top_k")
REFUSING_VERSION: Final = "2026-10-21"


class MessagesWire:
    request_id_header = "request-id"
    tells_usage = True

    def authorised(self, headers: Mapping[str, str], key: str) -> bool:
        return headers.get("x-api-key") == key or headers.get("authorization") == f"Bearer {key}"

    def decode(self, request: Request) -> dict[str, Any]:
        try:
            body = msgspec.json.decode(request.body, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise ValueError(f"the body is not a JSON object: {error}") from error
        _check(body, request.headers)
        return body

    def frames(self, call: Call) -> MessageFrames:
        return MessageFrames(call)

    def whole(self, call: Call, usage: Mapping[str, Any] | None) -> dict[str, Any]:
        raise NotImplementedError("`_check` refuses what does not stream")

    def wrong_key(self) -> tuple[int, Any]:
        return 401, self.error("invalid x-api-key", 401)

    def error(self, message: str, status: int) -> Any:
        kind = KINDS.get(status, "api_error" if status >= 500 or status < 400 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}}

    def refusal(self, message: str, status: int, retry_after: float | None) -> tuple[Any, dict[str, str]]:
        return self.error(message, status), retry_header(retry_after)


def _check(body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    """What the API itself refuses with 400."""
    version = headers.get("anthropic-version")
    if not version:
        raise ValueError("anthropic-version: header is required")
    if not isinstance(body.get("model"), str) or not isinstance(body.get("max_tokens"), int):
        raise ValueError("model and max_tokens: Field required")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages: at least one message is required")
    for number, message in enumerate(messages):
        if message.get("role") not in ("user", "assistant") or not message.get("content"):
            raise ValueError(f"messages.{number}: roles are user and assistant, and content must not be empty")
    for name in REFUSED:
        if version >= REFUSING_VERSION and name in body:
            raise ValueError(f"{name}: Extra inputs are not permitted")
    if not body.get("stream"):
        raise ValueError("this server only streams messages")


class MessageFrames:
    named = True

    def __init__(self, call: Call) -> None:
        self._call = call
        self._block = -1
        self._kind = ""

    def opening(self) -> list[bytes]:
        usage = {**self._input(), "output_tokens": 1}
        message: dict[str, Any] = {
            "id": self._call.id, "type": "message", "role": "assistant", "model": self._call.entry.model,
            "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage,
        }  # fmt: skip
        return [_encode({"type": "message_start", "message": message}), _encode({"type": "ping"})]

    def delta(self, delta: Delta, encoded: bytes, written: int) -> list[bytes]:
        said = msgspec.json.decode(encoded)
        if calls := said.get("tool_calls"):
            return self._tool(calls[0])
        if text := said.get("reasoning_content") or said.get("reasoning"):
            start = self._start("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            return [*start, self._delta({"type": "thinking_delta", "thinking": text})]
        start = self._start("text", {"type": "text", "text": ""})
        return [*start, self._delta({"type": "text_delta", "text": said.get("content") or ""})]

    def _tool(self, fragment: Mapping[str, Any]) -> list[bytes]:
        function = fragment.get("function", {})
        if fragment.get("id"):
            block = {"type": "tool_use", "id": fragment["id"], "name": function.get("name", ""), "input": {}}
            return self._start(f"tool {fragment['index']}", block)
        return [self._delta({"type": "input_json_delta", "partial_json": function.get("arguments", "")})]

    def _start(self, kind: str, block: Mapping[str, Any]) -> list[bytes]:
        if kind == self._kind:
            return []
        stopped = self._stop()
        self._kind = kind
        self._block += 1
        return [*stopped, _encode({"type": "content_block_start", "index": self._block, "content_block": block})]

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        return _encode({"type": "content_block_delta", "index": self._block, "delta": delta})

    def _stop(self) -> list[bytes]:
        if self._block < 0:
            return []
        signature = self._delta({"type": "signature_delta", "signature": "c2lnbmVk"})
        stop = _encode({"type": "content_block_stop", "index": self._block})
        return [signature, stop] if self._kind == "thinking" else [stop]

    def ending(self, written: int, *, signal: bool) -> list[bytes]:
        reason = self._call.answer.finish_reasons[0]
        stop = STOP_REASONS.get(reason, reason)
        delta: dict[str, Any] = {"stop_reason": stop, "stop_sequence": None}
        if stop == "refusal":
            delta["stop_details"] = {"type": "refusal", "category": "cyber", "explanation": "as told"}
        said = {"type": "message_delta", "delta": delta, "usage": self._usage(written)}
        return [*self._stop(), _encode(said), *([_encode({"type": "message_stop"})] if signal else [])]

    def _input(self) -> dict[str, int]:
        usage = self._call.usage(0)
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return {
            "input_tokens": usage["prompt_tokens"] - cached,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0,
        }

    def _usage(self, written: int) -> dict[str, Any]:
        usage = self._call.usage(written)
        thinking = usage["completion_tokens_details"]["reasoning_tokens"]
        details: Sequence[tuple[str, Any]] = (("output_tokens_details", {"thinking_tokens": thinking}),)
        return {**self._input(), "output_tokens": usage["completion_tokens"], **dict(details if thinking else ())}
