"""Between the guards and the stream: which deltas of one choice may leave, in which bytes.

Without rails on the output every delta leaves as it came. On a guarded answer what leaves is built from values that a
rail has read or that belong to a closed set. A delta that says nothing else, and that its guard released whole, leaves
as the provider's own bytes; overrides of the text's direction are left out, since a client would show its letters in
another order than the rails have read. Each channel (content, reasoning, refusal, tools) is guarded by itself.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Protocol

import msgspec
from railstream.config.rails import Channel as ChannelName
from railstream.deltas import decode_delta

from railstream_engine.generation import logprobs
from railstream_engine.generation.tool_calls import Declared, ToolCalls
from railstream_engine.providers.port import Delta
from railstream_engine.rails.matching.bidi import has_override, without_overrides
from railstream_engine.rails.port import Guards

_encode = msgspec.json.Encoder().encode
BEFORE = 200
"""Characters of the content that are kept to read an alternative token in its place."""


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


class Channel:
    """Deltas of one channel that wait for their guard, in order."""

    __slots__ = ("_ahead", "_choice", "_guard", "_held", "_sink", "field")

    def __init__(self, name: ChannelName, sink: Sink, guards: Guards, choice: bytes) -> None:
        self.field: str = name
        """The key of the channel's text in a delta."""
        self._sink = sink
        self._choice = choice
        self._held: deque[tuple[str, bytes, bytes]] = deque()
        self._ahead = 0
        """Code points of the first held delta that may leave, and wait for the rest of it."""
        self._guard = guards.channel(name, self._release)

    @property
    def guarded(self) -> bool:
        return self._guard is not None

    def push(self, text: str, raw: bytes, choice: bytes) -> None:
        """``raw``: a delta of this text alone; ``choice``: the choice's field, with what belongs to this text."""
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

    def flush(self) -> None:
        """Send white space that its guard has released and that waited for the word behind it."""
        if self._ahead:
            ahead, self._ahead = self._ahead, 0
            self._sink.chunk(self._delta(self._held[0][0][:ahead]), self._choice)
            self._keep_tail(ahead)

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
            self._keep_tail(consumed, rewritten=True)

    def _keep_tail(self, consumed: int, *, rewritten: bool = False) -> None:
        """What belongs to the whole text leaves with its last part, unless another part of it was rewritten."""
        head, _, choice = self._held[0]
        tail = head[consumed:]
        self._held[0] = (tail, self._delta(tail), self._choice if rewritten else choice)

    def _delta(self, text: str) -> bytes:
        return _written({self.field: text})


class Emission:
    """All channels of one choice."""

    def __init__(
        self,
        index: int,
        sink: Sink,
        guards: Guards,
        *,
        primed: str = "",
        declared: Declared | None = None,
        seed: str = "",
    ) -> None:
        """``primed``: content that an earlier attempt has released; ``declared`` and ``seed``: see `ToolCalls`."""
        self._index = index
        self._choice = b'{"index":%d}' % index if index else b""
        self._sink = sink
        self._guards = guards
        self._guarded = guards.guarded
        self._channels: dict[str, Channel] = {}
        self._before = ""
        """The content's last characters, where its alternatives are read."""
        self._calls = ToolCalls(guards, self._send_call, declared or {}, f"{seed}/{index}")
        self._content = self._channel("content")
        if primed:
            self._content.prime(primed)

    def push(self, delta: Delta) -> None:
        """Hand a delta to the guard of its channel; it leaves now, later, or never.

        Raises:
            CallError: it holds tool calls that are none, or past the bounds.
        """
        if not self._guarded:
            self._sink.chunk(delta.raw, self._with_logprobs(delta.logprobs) if delta.logprobs else self._choice)
        elif delta.exact and delta.content and not (delta.reasoning or delta.refusal or delta.logprobs):
            text, raw = delta.content, delta.raw
            if has_override(text):
                text = without_overrides(text)
                raw = _written({"content": text})
            self._content.push(text, raw, self._choice)
        else:
            self._push_parts(delta)

    def _push_parts(self, delta: Delta) -> None:
        """One delta with several kinds of text becomes one for each; all else of it is left out."""
        texts: dict[ChannelName, str] = {
            "reasoning": delta.reasoning,
            "content": delta.content,
            "refusal": delta.refusal,
        }
        spoken = {name: without_overrides(text) for name, text in texts.items() if text}
        for name, text in spoken.items():
            channel = self._channel(name)
            if name == "reasoning":
                short = b'"reasoning"' in delta.raw and b'"reasoning_content"' not in delta.raw
                channel.field = "reasoning" if short else "reasoning_content"
            if channel.guarded or self._guards.passes_unread:
                alone = delta.exact and len(spoken) == 1 and text == texts[name]
                raw = delta.raw if alone else _written({channel.field: text})
                channel.push(text, raw, self._choice_of(name, text, delta.logprobs))
        if self._channel("tools").guarded or self._guards.passes_unread:
            self._push_calls(delta)
        if delta.exact and not spoken:
            self._content.push("", _written({"content": ""}), self._choice)

    def _push_calls(self, delta: Delta) -> None:
        if delta.tools:
            self._calls.push(delta.tools)
        if not delta.exact and b'"function_call"' in delta.raw:
            self._calls.push_function_call(decode_delta(delta.raw).get("function_call"), len(delta.raw))

    def _send_call(self, delta: dict[str, Any]) -> None:
        self._sink.chunk(_written(delta), self._choice)

    def _channel(self, name: ChannelName) -> Channel:
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name, self._sink, self._guards, self._choice)
        return channel

    def _choice_of(self, name: ChannelName, text: str, given: bytes) -> bytes:
        """The choice's field with the log probabilities of this text, if they are its own."""
        if not given or not (entries := logprobs.entries_of(given, name, text)):
            return self._choice
        allowed = []
        for entry in entries:
            others = [one.token for one in entry.top_logprobs or ()]
            allowed.append(self._guards.alternatives(self._before, others))
            self._before = (self._before + entry.token)[-BEFORE:]
        return self._with_logprobs(logprobs.rebuilt(name, entries, allowed))

    def _with_logprobs(self, given: bytes) -> bytes:
        return b'{"index":%d,"logprobs":%b}' % (self._index, given)

    def end_calls(self) -> None:
        """The choice has finished: its tool calls are complete."""
        self._calls.end()

    def flush(self) -> None:
        """Send what the guards have released and what waits for more, since no more will come."""
        for channel in self._channels.values():
            channel.flush()

    async def finish(self) -> None:
        """Wait until every guard has decided all it was given."""
        for channel in list(self._channels.values()):
            await channel.finish()
        await self._calls.finish()

    async def aclose(self) -> None:
        for channel in self._channels.values():
            await channel.aclose()
        await self._calls.aclose()


def _written(delta: dict[str, Any]) -> bytes:
    try:
        return _encode(delta)
    except UnicodeEncodeError:  # half a surrogate pair: legal JSON when escaped
        return json.dumps(delta).encode()
