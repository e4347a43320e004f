"""Between the guards and the stream: which deltas of one choice may leave, in which bytes.

A delta that its guard released whole leaves as the provider's own bytes. Only where a guard holds back a part of
it, or rewrites it, is a new one written. Each channel (content, reasoning, refusal, tools) is guarded by itself. Of a
guarded delta only what its rails read may leave: a field that nobody knows could say anything.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from railstream_worker.llm.port import Delta
from railstream_worker.rails.port import OutputGuard, Release

_encode = msgspec.json.Encoder().encode

SAID: Final = {"function": "arguments", "custom": "input"}
"""Where a tool call of either type has its text."""


class Sink(Protocol):
    """Where released deltas go."""

    def chunk(self, delta: bytes, choice: bytes = b"") -> None: ...


class _Closed:
    """In the place of a guard that was closed: nothing leaves any more, and nothing leads back to the channel."""

    def prime(self, text: str) -> None: ...

    def passes(self, text: str) -> bool:
        return False

    def push(self, text: str) -> None: ...

    async def finish(self) -> None: ...

    async def aclose(self) -> None: ...


GuardFactory = Callable[[str, Release], OutputGuard | None]
"""``(channel, release)``: a guard of that channel, or ``None`` when nothing guards it."""


class Channel:
    """Deltas of one channel that wait for their guard, in order."""

    __slots__ = ("_ahead", "_choice", "_guard", "_held", "_name", "_sink")

    def __init__(self, name: str, sink: Sink, guards: GuardFactory, index: int) -> None:
        self._name = name
        self._sink = sink
        self._choice = b'{"index":%d}' % index if index else b""
        self._held: deque[tuple[str, bytes, bytes]] = deque()
        self._ahead = 0
        """Code points of the first held delta that may leave, and wait for the rest of it."""
        self._guard = guards(name, self._release)

    @property
    def guarded(self) -> bool:
        return self._guard is not None

    def push(self, text: str, raw: bytes, choice: bytes) -> None:
        guard = self._guard
        if guard is None or (not self._held and (not text or guard.passes(text))):
            self._sink.chunk(raw, choice)
            return
        self._held.append((text, raw, choice))
        guard.push(text)

    def prime(self, text: str) -> None:
        if self._guard is not None:
            self._guard.prime(text)

    async def finish(self) -> None:
        if self._guard is not None:
            await self._guard.finish()

    async def aclose(self) -> None:
        guard, self._guard = self._guard, _Closed()
        if guard is not None:
            await guard.aclose()

    def _release(self, consumed: int, text: str | None) -> None:
        consumed, ahead = consumed + self._ahead, self._ahead
        self._ahead = 0
        if text is not None:
            text = self._held[0][0][:ahead] + text if ahead else text
            self._drop(consumed)
            if text:
                self._sink.chunk(self._delta(text), self._choice)
            return
        while self._held:
            head, raw, choice = self._held[0]
            if len(head) > consumed:
                break
            self._held.popleft()
            consumed -= len(head)
            self._sink.chunk(raw, choice)
        if consumed:
            self._release_part(self._held[0][0], consumed)

    def _release_part(self, head: str, consumed: int) -> None:
        """Some of a delta may leave, the rest must wait. White space alone is not worth a frame: it waits too."""
        if head[:consumed].isspace():
            self._ahead = consumed
            return
        self._sink.chunk(self._delta(head[:consumed]), self._choice)
        self._keep_tail(consumed)

    def _drop(self, consumed: int) -> None:
        while self._held and len(self._held[0][0]) <= consumed:
            consumed -= len(self._held.popleft()[0])
        if consumed:
            self._keep_tail(consumed)

    def _keep_tail(self, consumed: int) -> None:
        tail = self._held[0][0][consumed:]
        self._held[0] = (tail, self._delta(tail), self._choice)

    def _delta(self, text: str) -> bytes:
        return _written({self._name: text})


class ToolChannel(Channel):
    """What one tool call says. Its fragments keep their index; the first also brings id and name."""

    __slots__ = ("_kind", "_tool")

    def __init__(self, tool: int, kind: str, sink: Sink, guards: GuardFactory, index: int) -> None:
        self._tool = tool
        self._kind = kind
        super().__init__("tools", sink, guards, index)

    def push(self, text: str, raw: bytes, choice: bytes) -> None:
        """Some providers send a call whole: its id and name go first, so that no rewritten delta is without them."""
        if self._guard is not None and text and (head := self._head(raw)):
            super().push("", head, choice)
            raw = self._delta(text)
        super().push(text, raw, choice)

    def _delta(self, text: str) -> bytes:
        return _written({"tool_calls": [{"index": self._tool, self._kind: {SAID[self._kind]: text}}]})

    def _head(self, raw: bytes) -> bytes:
        """The delta of a call that begins, without what it says; nothing of one that goes on."""
        delta = msgspec.json.decode(raw)
        (fragment,) = delta["tool_calls"]
        if not fragment.get("id"):
            return b""
        silent = {**fragment, self._kind: {**fragment[self._kind], SAID[self._kind]: ""}}
        return _encode({**delta, "tool_calls": [silent]})


class Emission:
    """All channels of one choice."""

    def __init__(self, index: int, sink: Sink, guards: GuardFactory, *, primed: str = "") -> None:
        """``primed``: content that an earlier attempt has released."""
        self._index = index
        self._sink = sink
        self._guards = guards
        self._channels: dict[str, Channel] = {}
        self._content: Channel | None = None
        self._reasoning_name = "reasoning_content"
        if primed:
            self._channel("content").prime(primed)

    def push(self, delta: Delta) -> None:
        """Hand a delta to the guard of its channel; it leaves now, later, or never."""
        choice = self._choice(delta.logprobs) if delta.logprobs or self._index else b""
        if not (delta.reasoning or delta.refusal or delta.tools or delta.unread):
            return (self._content or self._channel("content")).push(delta.content, delta.raw, choice)
        kinds = bool(delta.content) + bool(delta.reasoning) + bool(delta.refusal) + bool(delta.tools)
        if kinds > 1 or (delta.unread and self._guards_any(delta)):
            return self._push_parts(delta)
        if delta.reasoning:
            if b'"reasoning_content"' not in delta.raw:
                self._reasoning_name = "reasoning"
            self._channel("reasoning").push(delta.reasoning, delta.raw, choice)
        elif delta.refusal:
            self._channel("refusal").push(delta.refusal, delta.raw, choice)
        elif delta.tools:
            self._push_tools(delta.tools, delta.raw, choice)
        else:
            self._channel("content").push(delta.content, delta.raw, choice)

    def _guards_any(self, delta: Delta) -> bool:
        """Whether somebody checks what this delta says."""
        if delta.tools:
            return self._guards("tools", lambda *_: None) is not None
        return self._channel("reasoning" if delta.reasoning else "refusal" if delta.refusal else "content").guarded

    def _push_parts(self, delta: Delta) -> None:
        """One delta with several kinds of text becomes one for each; unknown fields of it are left out."""
        if delta.reasoning:
            self._channel("reasoning").push(delta.reasoning, _written({"reasoning_content": delta.reasoning}), b"")
        if delta.content:
            raw, choice = _written({"content": delta.content}), self._choice(delta.logprobs)
            self._channel("content").push(delta.content, raw, choice)
        if delta.refusal:
            self._channel("refusal").push(delta.refusal, _written({"refusal": delta.refusal}), b"")
        if delta.tools:
            self._push_tools(delta.tools, b'{"tool_calls":%b}' % delta.tools, b"")

    def _push_tools(self, tools: bytes, raw: bytes, choice: bytes) -> None:
        fragments = msgspec.json.decode(tools, type=list[dict[str, object]])
        for fragment in fragments:
            tool = fragment.get("index")
            number = tool if isinstance(tool, int) else 0
            kind = "custom" if isinstance(fragment.get("custom"), dict) else "function"
            key = f"tool {number}"
            if key not in self._channels:
                self._channels[key] = ToolChannel(number, kind, self._sink, self._guards, self._index)
            called = fragment.get(kind)
            said = called.get(SAID[kind]) if isinstance(called, dict) else None
            own = raw if len(fragments) == 1 else _encode({"tool_calls": [fragment]})
            self._channels[key].push(said if isinstance(said, str) else "", own, choice)

    def _channel(self, name: str) -> Channel:
        channel = self._channels.get(name)
        if channel is None:
            field = self._reasoning_name if name == "reasoning" else name
            kind = Channel(field, self._sink, lambda _, release: self._guards(name, release), self._index)
            channel = self._channels[name] = kind
            if name == "content":
                self._content = channel
        return channel

    def _choice(self, logprobs: bytes) -> bytes:
        if logprobs:
            return b'{"index":%d,"logprobs":%b}' % (self._index, logprobs)
        return b'{"index":%d}' % self._index if self._index else b""

    async def finish(self) -> None:
        """Wait until every guard has decided all it was given."""
        for channel in list(self._channels.values()):
            await channel.finish()

    async def aclose(self) -> None:
        for channel in self._channels.values():
            await channel.aclose()


def _written(delta: dict[str, Any]) -> bytes:
    try:
        return _encode(delta)
    except UnicodeEncodeError:  # half a surrogate pair: legal JSON when escaped
        return json.dumps(delta).encode()
