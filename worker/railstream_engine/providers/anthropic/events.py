"""Read the event stream of Anthropic's Messages. It is over with the stop reason or ``message_stop``: anything else
is a truncation.

Deltas are rewritten into OpenAI's form, which is what flows through here. Counts are cumulative and the last ones
hold; what the cache gave or took is beside ``input_tokens`` there, and inside the input here.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from railstream_engine.providers.http.error_events import error_of, reported
from railstream_engine.providers.http.event_lines import EventLines
from railstream_engine.providers.port import Delta, Finish, Part, ResponseInfo, TokenCount
from railstream_engine.providers.usage_counts import counted, kept, part_of

STOP_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    id: str = ""
    name: str = ""


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Message(msgspec.Struct, gc=False):
    id: str = ""
    model: str = ""
    usage: dict[str, Any] | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    usage: dict[str, Any] | None = None


class _Content(msgspec.Struct, gc=False):
    """A block of a message that came whole."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"")


class _Answer(msgspec.Struct, gc=False):
    """A message that came in place of a stream."""

    type: str = ""
    id: str = ""
    model: str = ""
    content: list[_Content] = []
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode = msgspec.json.Decoder(_Event).decode
_encode = msgspec.json.Encoder().encode


class MessageReader(EventLines):
    """Feed it bytes; it gives parts. Events and deltas that it does not know are left out, as the API asks."""

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[str, Any] = {}
        self._stopped = False
        self._tools: dict[int, int] = {}
        """Content block to tool call, both by index."""

    @property
    def complete(self) -> bool:
        """The stop reason has come, and with it the usage: ``message_stop`` changes nothing."""
        return self.done or self._stopped

    @property
    def whole(self) -> bool:
        return self.complete

    def end(self) -> list[Part]:
        """A server may answer with one message in place of a stream, or with an error."""
        parts = super().end()
        if not self.complete and (bare := self._bare_json()):
            try:
                answer = _decode_answer(bare)
            except msgspec.MsgspecError:
                raise reported(bare) from None
            if answer.type != "message" or not answer.stop_reason:
                raise reported(bare)
            self._whole_message(answer, parts)
        return parts

    def _whole_message(self, answer: _Answer, parts: list[Part]) -> None:
        parts.append(ResponseInfo(answer.id, answer.model))
        for index, block in enumerate(answer.content):
            if block.type == "text":
                self._delta(index, _Delta("text_delta", text=block.text), parts)
            elif block.type == "thinking":
                self._delta(index, _Delta("thinking_delta", thinking=block.thinking), parts)
            elif block.type == "tool_use":
                self._start(index, _Block(block.type, block.id, block.name), parts)
                arguments = bytes(block.input).decode() or "{}"
                self._delta(index, _Delta("input_json_delta", partial_json=arguments), parts)
        self._count(answer.usage, parts)
        reason = answer.stop_reason or ""
        parts.append(Finish(0, STOP_REASONS.get(reason, reason), reason))
        self.done = True

    def _event(self, data: bytes, parts: list[Part]) -> None:
        try:
            event = _decode(data)
        except msgspec.MsgspecError:
            if (failure := error_of(data)) is not None:
                raise failure from None
            raise
        if event.type == "content_block_delta" and event.delta is not None:
            self._delta(event.index, event.delta, parts)
        elif event.type == "content_block_start" and event.content_block is not None:
            self._start(event.index, event.content_block, parts)
        elif event.type == "message_start" and event.message is not None:
            parts.append(ResponseInfo(event.message.id, event.message.model))
            self._count(event.message.usage, parts)
        elif event.type == "message_delta":
            self._count(event.usage, parts)
            reason = event.delta.stop_reason if event.delta is not None else None
            if reason:
                parts.append(Finish(0, STOP_REASONS.get(reason, reason), reason))
                self._stopped = True
        elif event.type == "message_stop":
            self.done = True
        elif event.type in ("", "error") and (failure := error_of(data)) is not None:
            raise failure

    def _delta(self, index: int, delta: _Delta, parts: list[Part]) -> None:
        if delta.type == "text_delta":
            parts.append(Delta(0, _encode({"content": delta.text}), delta.text, exact=True))
        elif delta.type == "thinking_delta" and delta.thinking:
            parts.append(Delta(0, _encode({"reasoning_content": delta.thinking}), reasoning=delta.thinking, exact=True))
        elif delta.type == "input_json_delta" and index in self._tools and delta.partial_json:
            fragment = {"index": self._tools[index], "function": {"arguments": delta.partial_json}}
            parts.append(_tool_delta(fragment))

    def _start(self, index: int, block: _Block, parts: list[Part]) -> None:
        if block.type != "tool_use":
            return
        number = self._tools[index] = len(self._tools)
        function = {"name": block.name, "arguments": ""}
        parts.append(_tool_delta({"index": number, "id": block.id, "type": "function", "function": function}))

    def _count(self, usage: dict[str, Any] | None, parts: list[Part]) -> None:
        if usage:
            self._usage = kept(self._usage, usage)
            parts.append(token_count(self._usage))


def _tool_delta(fragment: dict[str, Any]) -> Delta:
    tools = _encode([fragment])
    return Delta(0, b'{"tool_calls":%b}' % tools, tools=tools)


def token_count(usage: dict[str, Any]) -> TokenCount:
    """Anthropic's usage object as inclusive buckets, and in OpenAI's form."""
    read = counted(usage, "cache_read_input_tokens")
    written = counted(usage, "cache_creation_input_tokens")
    asked = counted(usage, "input_tokens") + read + written
    said = counted(usage, "output_tokens")
    thought = counted(part_of(usage, "output_tokens_details"), "thinking_tokens")
    raw = {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    return TokenCount(asked, said, read, written, thought, raw)
