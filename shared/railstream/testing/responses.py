"""The wire of OpenAI's Responses: a request's input as messages, and the events of an answer with their numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from railstream.testing.answer import Delta
from railstream.testing.frames import ChatWire

if TYPE_CHECKING:
    from railstream.testing.call import Call
    from railstream.testing.http import Request

REFUSED = ("messages", "max_tokens", "max_completion_tokens", "stop", "n", "seed", "logit_bias", "response_format")
"""Options of chat completions that the API answers with 400: it has others, or none."""


class ResponsesWire(ChatWire):
    """Errors, keys and headers are those of chat completions. It is played by `railstream.testing.runs`."""

    tells_usage = True

    def decode(self, request: Request) -> dict[str, Any]:
        try:
            body = msgspec.json.decode(request.body, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise ValueError(f"the body is not a JSON object: {error}") from error
        for name in REFUSED:
            if name in body:
                raise ValueError(f"Unknown parameter: {name!r}.")
        if not isinstance(body.get("model"), str):
            raise ValueError("model is required")
        if body.get("background") and body.get("store") is False:
            raise ValueError("store must be true in background mode")
        return body | {"messages": _messages(body), "max_tokens": body.get("max_output_tokens")}


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise ValueError("input must be a text or a list of items that is not empty")
    first = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    return [*first, *(_message(item) for item in items)]


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    if item.get("type", "message") == "message":
        if item.get("role") not in ("user", "system", "developer", "assistant"):
            raise ValueError(f"Invalid value: {item.get('role')!r}. of input's role")
        content = item.get("content")
        if not isinstance(content, str):
            content = [
                {"type": "text", "text": part.get("text") or part.get("refusal") or ""} for part in content or ()
            ]
        return {"role": item["role"], "content": content}
    if item["type"] == "function_call":
        return {"role": "assistant", "content": item["arguments"]}
    if item["type"] == "function_call_output":
        return {"role": "tool", "content": item["output"]}
    raise ValueError(f"Invalid value: {item['type']!r}. of input's type")


class ResponseEvents:
    """The events of one response. Each is encoded once, with its number, and is the same for whoever reads it."""

    def __init__(self, call: Call, id: str, *, background: bool) -> None:
        self._call = call
        self._number = 0
        self._output: list[dict[str, Any]] = []
        """The items so far; the last one is open while `_kind` is set."""
        self._kind = ""
        self._text = ""
        self.response: dict[str, Any] = {
            "id": id, "object": "response", "created_at": int(time.time()), "status": "queued",
            "background": background, "model": call.entry.model, "output": self._output, "error": None,
            "incomplete_details": None, "usage": None, "store": True,
        }  # fmt: skip

    def opening(self) -> list[bytes]:
        created = self._of_response("response.created")
        self.response["status"] = "in_progress"
        return [created, self._of_response("response.in_progress")]

    def delta(self, delta: Delta, encoded: bytes) -> list[bytes]:
        fields = msgspec.json.decode(encoded)
        if calls := fields.get("tool_calls"):
            return self._tool(calls[0])
        if text := fields.get("reasoning_content") or fields.get("reasoning"):
            item = {"type": "reasoning", "summary": [{"type": "summary_text", "text": ""}]}
            start = self._start("reasoning", item)
            return [*start, self._text_delta("response.reasoning_summary_text.delta", text, summary_index=0)]
        field = "refusal" if fields.get("refusal") else "output_text"
        key = "refusal" if field == "refusal" else "text"
        part: dict[str, Any] = {"type": field, key: ""}
        start = self._start(field, {"type": "message", "role": "assistant", "content": [part]})
        return [
            *start,
            self._text_delta(f"response.{field}.delta", fields.get("refusal") or fields.get("content") or ""),
        ]

    def _tool(self, fragment: Mapping[str, Any]) -> list[bytes]:
        function = fragment.get("function", {})
        if fragment.get("id"):
            item = {"type": "function_call", "call_id": fragment["id"], "name": function["name"], "arguments": ""}
            return self._start(f"tool {fragment['index']}", item)
        return [self._text_delta("response.function_call_arguments.delta", function.get("arguments", ""))]

    def _start(self, kind: str, item: dict[str, Any]) -> list[bytes]:
        if kind == self._kind:
            return []
        done = self._stop()
        self._kind, self._text = kind, ""
        prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc"}[item["type"]]
        self._output.append(
            {"id": f"{prefix}_{len(self._output)}_{self.response['id']}", "status": "in_progress"} | item
        )
        return [*done, self._event("response.output_item.added", item=self._output[-1], **self._place)]

    def _stop(self) -> list[bytes]:
        """Close the open item: its whole text, then the item."""
        if not self._kind:
            return []
        item, text = self._output[-1], self._text
        item["status"] = "completed"
        if self._kind == "reasoning":
            item["summary"][0]["text"] = text
            whole = self._event("response.reasoning_summary_text.done", text=text, summary_index=0, **self._of_item)
        elif item["type"] == "function_call":
            item["arguments"] = text
            whole = self._event("response.function_call_arguments.done", arguments=text, **self._of_item)
        else:
            key = "refusal" if self._kind == "refusal" else "text"
            item["content"][0][key] = text
            whole = self._event(f"response.{self._kind}.done", **{key: text}, content_index=0, **self._of_item)
        self._kind = ""
        return [whole, self._event("response.output_item.done", item=item, **self._place)]

    def ending(self, written: int) -> list[bytes]:
        """The last events of an answer that ends as its script says."""
        reason = self._call.answer.finish_reasons[0]
        reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
        closing = self._stop()
        status = "incomplete" if reason in reasons else "completed"
        if status == "incomplete":
            self.response["incomplete_details"] = {"reason": reasons[reason]}
        return [*closing, self.end(status, written)]

    def end(self, status: str, written: int, error: Mapping[str, Any] | None = None) -> bytes:
        """The last event, which says in which status the response ends."""
        self.response |= {"status": status, "error": error, "usage": self._usage(written)}
        return self._of_response(f"response.{status}")

    def _usage(self, written: int) -> dict[str, Any] | None:
        if not self._call.sends_usage:
            return None
        usage = self._call.usage(written)
        return {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": usage["prompt_tokens_details"]["cached_tokens"]},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {
                "reasoning_tokens": usage["completion_tokens_details"]["reasoning_tokens"],
            },
            "total_tokens": usage["total_tokens"],
        }

    @property
    def _place(self) -> dict[str, Any]:
        return {"output_index": len(self._output) - 1}

    @property
    def _of_item(self) -> dict[str, Any]:
        return self._place | {"item_id": self._output[-1]["id"]}

    def _text_delta(self, type: str, text: str, **more: Any) -> bytes:
        self._text += text
        if type in ("response.output_text.delta", "response.refusal.delta"):
            more |= {"content_index": 0}
        return self._event(type, delta=text, **more, **self._of_item)

    def _of_response(self, type: str) -> bytes:
        return self._event(type, response=self.response)

    def _event(self, type: str, **fields: Any) -> bytes:
        encoded = msgspec.json.encode({"type": type, "sequence_number": self._number, **fields})
        self._number += 1
        return encoded
