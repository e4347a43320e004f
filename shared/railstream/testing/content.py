"""The wire of Google's Gemini API, ``generateContent`` and its stream: whole responses, each with an increment.

Usage is on every chunk, thoughts are counted beside the candidates, function calls come whole, and nothing but the
``finishReason`` says that this was all. What is blocked before a word was said has no candidate at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from railstream.testing.answer import Delta
from railstream.testing.content_request import chat_body

if TYPE_CHECKING:
    from railstream.testing.call import Call
    from railstream.testing.http import Request

_encode = msgspec.json.encode
FINISH_REASONS: Final = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
STATUSES: Final = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
RATING: Final = {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True}
SIGNATURE: Final = "c2lnbmVk"


class ContentWire:
    request_id_header = ""
    tells_usage = True

    def authorised(self, headers: Mapping[str, str], key: str) -> bool:
        return headers.get("x-goog-api-key") == key

    def decode(self, request: Request) -> dict[str, Any]:
        return chat_body(request)

    def frames(self, call: Call) -> ContentFrames:
        return ContentFrames(call)

    def whole(self, call: Call, usage: Mapping[str, Any] | None) -> dict[str, Any]:
        return ContentFrames(call).whole()

    def wrong_key(self) -> tuple[int, Any]:
        said = error("API key not valid. Please pass a valid API key.", 400)
        reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
        said["error"]["details"] = [{**reason, "domain": "googleapis.com"}]
        return 400, said

    def error(self, message: str, status: int) -> Any:
        return error(message, status)

    def refusal(self, message: str, status: int, retry_after: float | None) -> tuple[Any, dict[str, str]]:
        """When to come again stands in the body: no header says it."""
        said = error(message, status)
        if retry_after is not None:
            delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_after:g}s"}
            said["error"]["details"] = [delay]
        return said, {}


def error(message: str, status: int) -> dict[str, Any]:
    """Google's error object."""
    return {"error": {"code": status, "message": message, "status": STATUSES.get(status, "UNKNOWN")}}


class ContentFrames:
    """A function call is held back until its last piece is there."""

    named = False

    def __init__(self, call: Call) -> None:
        self._call = call
        self._thoughts = 0
        self._pending: dict[str, Any] = {}
        self._signed: set[int] = set()
        usage = call.usage(0)
        self._prompt = usage["prompt_tokens"]
        self._cached = usage["prompt_tokens_details"]["cached_tokens"]

    def opening(self) -> list[bytes]:
        return []

    def delta(self, delta: Delta, encoded: bytes, written: int) -> list[bytes]:
        said = msgspec.json.decode(encoded)
        if calls := said.get("tool_calls"):
            return self._tool(delta.choice, calls[0], written)
        thought = said.get("reasoning_content") or said.get("reasoning")
        self._thoughts += bool(thought)
        part = {"text": thought, "thought": True} if thought else {"text": said.get("content") or ""}
        return [*self._flush(written), self._chunk([candidate(delta.choice, part)], written)]

    def _tool(self, choice: int, fragment: Mapping[str, Any], written: int) -> list[bytes]:
        function = fragment.get("function", {})
        if not fragment.get("id"):
            self._pending["arguments"] += function.get("arguments", "")
            return []
        before = self._flush(written)
        self._pending = {"choice": choice, "id": fragment["id"], "name": function.get("name", ""), "arguments": ""}
        return before

    def _flush(self, written: int) -> list[bytes]:
        if not self._pending:
            return []
        pending, self._pending = self._pending, {}
        choice = pending["choice"]
        arguments = msgspec.Raw(pending["arguments"].encode() or b"{}")
        part: dict[str, Any] = {"functionCall": {"id": pending["id"], "name": pending["name"], "args": arguments}}
        if choice not in self._signed:  # of calls that are made together, the first one is signed
            self._signed.add(choice)
            part["thoughtSignature"] = SIGNATURE
        return [self._chunk([candidate(choice, part)], written)]

    def ending(self, written: int, *, signal: bool) -> list[bytes]:
        held = self._flush(written)
        if not signal:
            return held
        if not self._call.answer.deltas and self._call.script.finish_reason == "content_filter":
            blocked = {"blockReason": "PROHIBITED_CONTENT", "safetyRatings": [RATING]}
            return [_encode({"promptFeedback": blocked, **self._shared(written)})]
        ended = [
            {**candidate(choice, {"text": ""}), **_finish(reason)}
            for choice, reason in enumerate(self._call.answer.finish_reasons)
        ]
        return [*held, self._chunk(ended, written)]

    def whole(self) -> dict[str, Any]:
        """All chunks of the stream as one response."""
        deltas = self._call.answer.deltas
        stamped = self._call.script.stamp
        payloads = [
            payload
            for number, delta in enumerate(deltas, 1)
            for payload in self.delta(delta, delta.encode(stamped=stamped), number)
        ]
        chunks = [msgspec.json.decode(payload) for payload in (*payloads, *self.ending(len(deltas), signal=True))]
        *before, last = chunks
        for ended in last.get("candidates", ()):
            said = (one for chunk in before for one in chunk["candidates"] if one["index"] == ended["index"])
            ended["content"]["parts"] = _joined([part for one in said for part in one["content"]["parts"]])
        whole: dict[str, Any] = last
        return whole

    def _chunk(self, candidates: list[dict[str, Any]], written: int) -> bytes:
        return _encode({"candidates": candidates, **self._shared(written)})

    def _shared(self, written: int) -> dict[str, Any]:
        shared = {"modelVersion": self._call.entry.model, "responseId": self._call.id}
        return {"usageMetadata": self._usage(written), **shared} if self._call.sends_usage else shared

    def _usage(self, written: int) -> dict[str, Any]:
        given = self._call.script.completion_tokens
        said = (written if given is None else given) - self._thoughts
        usage = {"promptTokenCount": self._prompt, "candidatesTokenCount": said}
        details = {"cachedContentTokenCount": self._cached, "thoughtsTokenCount": self._thoughts}
        total = {"totalTokenCount": self._prompt + said + self._thoughts}
        return usage | total | {name: count for name, count in details.items() if count}


def candidate(choice: int, part: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": {"parts": [part], "role": "model"}, "index": choice}


def _finish(told: str) -> dict[str, Any]:
    reason = FINISH_REASONS.get(told, told)
    return {"finishReason": reason} | ({"safetyRatings": [RATING]} if reason == "SAFETY" else {})


def _joined(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Texts of one kind in a row are one part."""
    whole: list[dict[str, Any]] = []
    for part in parts:
        if whole and "text" in part and "text" in whole[-1] and part.get("thought") == whole[-1].get("thought"):
            whole[-1]["text"] += part["text"]
        else:
            whole.append(part)
    return whole
