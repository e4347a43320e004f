"""Prompts and answers on spans: never, unless ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` asks.

``true``, ``span_only`` and ``span_and_event`` put them where the convention says, as JSON, on the call's span.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from railstream.telemetry.names import CAPTURE_CONTENT

ON_SPANS = frozenset({"true", "span_only", "span_and_event"})


def captured(environ: Mapping[str, str]) -> bool:
    return environ.get(CAPTURE_CONTENT, "").strip().lower() in ON_SPANS


def input_messages(messages: Sequence[Mapping[str, Any]]) -> str:
    """``gen_ai.input.messages``: ``[{"role", "parts": [{"type": "text", "content"}]}]``."""
    return json.dumps([_message(message) for message in messages], ensure_ascii=False)


def output_messages(text: str, finish_reason: str) -> str:
    """``gen_ai.output.messages``: one assistant message, with why it ended."""
    parts = [{"type": "text", "content": text}]
    return json.dumps([{"role": "assistant", "parts": parts, "finish_reason": finish_reason}], ensure_ascii=False)


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list):
        parts = [_part(part) for part in content]
    else:
        parts = [{"type": "text", "content": content}] if content else []
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        parts.append(
            {
                "type": "tool_call",
                "id": call.get("id"),
                "name": function.get("name"),
                "arguments": function.get("arguments"),
            }
        )
    return {"role": message.get("role"), "parts": parts}


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, Mapping) and part.get("type") == "text":
        return {"type": "text", "content": part.get("text")}
    return dict(part) if isinstance(part, Mapping) else {"type": "text", "content": str(part)}
