"""The wire of OpenAI's chat completions: chunks from a bytes template, SSE events, whole completions, errors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from railstream.testing.answer import Answer, Delta
from railstream.testing.script import Script

if TYPE_CHECKING:
    from railstream.testing.call import Call
    from railstream.testing.http import Request

FINGERPRINT = "railstream-testing-upstream"
DONE = b"[DONE]"
ROLE = b'{"role":"assistant","content":""}'


class ChatWire:
    request_id_header = "x-request-id"
    tells_usage = False

    def authorised(self, headers: Mapping[str, str], key: str) -> bool:
        return headers.get("authorization") == f"Bearer {key}" or headers.get("api-key") == key

    def decode(self, request: Request) -> dict[str, Any]:
        try:
            body = msgspec.json.decode(request.body, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise ValueError(f"the body is not a JSON object: {error}") from error
        messages = body.get("messages")
        if not isinstance(body.get("model"), str):
            raise ValueError("model is required")
        if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
            raise ValueError("messages must be a list of objects that is not empty")
        for name in ("n", "max_tokens", "max_completion_tokens"):
            if not isinstance(body.get(name), int | None):
                raise ValueError(f"{name} must be a number: {body[name]!r}")
        return body

    def frames(self, call: Call) -> Frames:
        return Frames(call)

    def whole(self, call: Call, usage: Mapping[str, Any] | None) -> dict[str, Any]:
        return completion(call.id, call.entry.model, call.answer, call.script, usage)

    def wrong_key(self) -> tuple[int, Any]:
        return 401, error("Incorrect API key provided", 401, "invalid_api_key")

    def error(self, message: str, status: int) -> Any:
        return error(message, status)

    def refusal(self, message: str, status: int, retry_after: float | None) -> tuple[Any, dict[str, str]]:
        return self.error(message, status), retry_header(retry_after)


class Frames:
    """The chunks of one completion. Where the request asked for usage, every chunk has the key."""

    named = False

    def __init__(self, call: Call) -> None:
        self._call = call
        self._usage = call.sends_usage
        self._continuous = call.script.usage == "continuous"
        self._logprobs = call.script.logprobs or bool(call.body.get("logprobs"))
        shared = {"id": call.id, "object": "chat.completion.chunk", "created": int(time.time())}
        named = shared | {"model": call.entry.model, "system_fingerprint": FINGERPRINT}
        encoded = msgspec.json.encode(named | call.script.extra)
        self._finished = b"".join(
            b",%b:%b" % (msgspec.json.encode(name), msgspec.json.encode(value))
            for name, value in call.script.choice_extra.items()
        )
        self._open = encoded[:-1] + b',"choices":['
        self._close = b'],"usage":null}' if self._usage else b"]}"

    def opening(self) -> list[bytes]:
        choices = range(len(self._call.answer.finish_reasons))
        return [self._chunk(choice, ROLE, b"null", b"null", None) for choice in choices]

    def delta(self, delta: Delta, encoded: bytes, written: int) -> tuple[bytes]:
        said = logprobs(delta) if self._logprobs else b"null"
        if "tool_calls" in delta.raw and self._call.script.tool_index != "own":
            encoded = msgspec.json.encode(_with_index(delta.raw, self._call.script.tool_index))
        return (self._chunk(delta.choice, encoded, said, b"null", self._shown(written)),)

    def ending(self, written: int, *, signal: bool) -> list[bytes]:
        shown, reasons = self._shown(written), self._call.answer.finish_reasons
        payloads = [
            self._chunk(choice, b"{}", b"null", msgspec.json.encode(reason), shown)
            for choice, reason in enumerate(reasons)
        ]
        if self._usage:
            payloads.append(b'%b],"usage":%b}' % (self._open, msgspec.json.encode(self._call.usage(written))))
        if self._usage and self._call.script.zeros:
            zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
            payloads.append(b'%b],"usage":%b}' % (self._open, msgspec.json.encode(zeros)))
        return [*payloads, DONE] if signal else payloads

    def _shown(self, written: int) -> bytes | None:
        return msgspec.json.encode(self._call.usage(written)) if self._continuous else None

    def _chunk(self, choice: int, delta: bytes, logprobs: bytes, finish: bytes, usage: bytes | None) -> bytes:
        close = self._close if usage is None else b'],"usage":%b}' % usage
        more = b"" if finish == b"null" else self._finished
        said = b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b%b}' % (choice, delta, logprobs, finish, more)
        return self._open + said + close


def _with_index(raw: Mapping[str, Any], index: str) -> dict[str, Any]:
    """A delta of tool calls whose fragments do not tell their calls apart by index."""
    fragments = [{name: value for name, value in call.items() if name != "index"} for call in raw["tool_calls"]]
    return {**raw, "tool_calls": [{"index": 0, **call} if index == "zero" else call for call in fragments]}


def logprobs(delta: Delta) -> bytes:
    """The logprobs of a text delta: one token, made up but well formed."""
    if delta.field != "content":
        return b"null"
    token = {"token": delta.text, "logprob": -0.25, "bytes": list(delta.text.encode()), "top_logprobs": []}
    return msgspec.json.encode({"content": [token], "refusal": None})


def completion(id: str, model: str, answer: Answer, script: Script, usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """A whole answer, for a request that does not stream."""
    choices = []
    for index, reason in enumerate(answer.finish_reasons):
        message = answer.message(index, stamped=script.stamp)
        ended = {"index": index, "message": message, "logprobs": None, "finish_reason": reason}
        choices.append(ended | script.choice_extra)
    shared = {"id": id, "object": "chat.completion", "created": int(time.time()), "model": model}
    whole = shared | {"system_fingerprint": FINGERPRINT} | script.extra | {"choices": choices}
    return whole if usage is None else whole | {"usage": usage}


def error(message: str, status: int, code: str | None = None) -> dict[str, Any]:
    """OpenAI's error object."""
    kind = "invalid_request_error" if 400 <= status < 500 and status != 429 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def retry_header(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"retry-after": f"{seconds:g}"}
