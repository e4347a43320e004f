"""Read the event stream of an OpenAI-compatible endpoint.

Deltas are kept as the provider's own bytes; only what rails and bookkeeping need is decoded. The stream is over
with ``[DONE]``, or when every choice has a finish reason: anything else is a truncation. A server that answers with
one completion object in place of a stream is read at the end of its body.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
from railstream.errors import CallError
from railstream.extra_fields import OF_A_CHOICE, OF_THE_ANSWER

from railstream_engine.providers.http.error_events import error_of
from railstream_engine.providers.http.event_lines import EventLines, wrong_form
from railstream_engine.providers.openai.chunk_template import ChunkTemplate
from railstream_engine.providers.port import Delta, Extra, Finish, Part, ResponseInfo
from railstream_engine.providers.tool_indexes import ToolIndexes
from railstream_engine.providers.usage_counts import UsageCounts

_NOTHING = msgspec.Raw(b"")  # a union of Raw and None would refuse what is not null


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: msgspec.Raw = _NOTHING
    message: msgspec.Raw = _NOTHING
    """In the delta's place where the answer is no stream."""
    finish_reason: str | None = None
    logprobs: msgspec.Raw = _NOTHING
    content_filter_results: msgspec.Raw = _NOTHING
    stop_reason: msgspec.Raw = _NOTHING
    matched_stop: msgspec.Raw = _NOTHING
    native_finish_reason: msgspec.Raw = _NOTHING


class _Chunk(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    x_groq: dict[str, Any] | None = None
    error: msgspec.Raw = _NOTHING
    system_fingerprint: msgspec.Raw = _NOTHING
    service_tier: msgspec.Raw = _NOTHING
    citations: msgspec.Raw = _NOTHING
    search_results: msgspec.Raw = _NOTHING
    prompt_filter_results: msgspec.Raw = _NOTHING
    provider: msgspec.Raw = _NOTHING


class _Text(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: msgspec.Raw = _NOTHING
    role: str | None = None


class _OnlyText(_Text, gc=False, forbid_unknown_fields=True):
    pass


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_text = msgspec.json.Decoder(_Text).decode
_decode_only_text = msgspec.json.Decoder(_OnlyText).decode
_encode = msgspec.json.Encoder().encode

FINISH_REASONS = {
    "stop": "stop",
    "end_turn": "stop",
    "eos": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "model_length": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
}
FAILURES = {"error": "provider", "insufficient_system_resource": "overloaded", "malformed_function_call": "provider"}
"""Said as a finish reason where the answer failed: OpenRouter's, DeepSeek's, Gemini's."""


MOST_CHOICES = 128
"""Of one answer: OpenAI's greatest ``n``."""


class ChunkReader(EventLines):
    """Feed it bytes; it gives parts. ``done`` once ``[DONE]`` was read.

    ``choices``: how many were asked for. ``expects_usage``: the provider was asked for it.
    ``keeps``: what of `railstream.extra_fields` is read.
    ``tools_end_with_stop``: an answer that called tools ends with ``stop`` here, and means ``tool_calls``.
    ``thoughts_in_total``: tokens of reasoning are those of the total that are neither prompt nor completion.
    """

    def __init__(
        self,
        *,
        choices: int = 1,
        expects_usage: bool = False,
        keeps: frozenset[str] = frozenset((*OF_THE_ANSWER, *OF_A_CHOICE)),
        tools_end_with_stop: bool = False,
        thoughts_in_total: bool = False,
    ) -> None:
        super().__init__()
        self._choices = choices
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._filled: set[int] = set()
        """Choices of which something was read."""
        self._informed = False
        self._template = ChunkTemplate()
        self._calling: set[int] | None = set() if tools_end_with_stop else None
        self._tools: dict[int, ToolIndexes] = {}
        self._usage = UsageCounts(thoughts_in_total=thoughts_in_total)
        self._expects_usage = expects_usage
        self._keeps = keeps
        self._seen_extra: dict[tuple[int | None, str], msgspec.Raw] = {}

    @property
    def complete(self) -> bool:
        """The provider has said that this is all."""
        return self.done or (self._ended and len(self._finished) >= self._choices)

    @property
    def _ended(self) -> bool:
        """Every choice that has begun has its finish reason."""
        return bool(self._finished) and self._open <= self._finished

    @property
    def whole(self) -> bool:
        """Every choice that was asked for has its finish reason, and the usage has come if it was asked for."""
        return self.done or (self.complete and (self._usage.came or not self._expects_usage))

    def feed(self, data: bytes) -> list[Part]:
        if not (self._rest or self._data or self._name or self.done):
            delta = self._template.read(data)
            if delta is not None:
                return [delta]
        return super().feed(data)

    def end(self) -> list[Part]:
        parts = super().end()
        if not self.done and not self._open and (bare := self._bare_json()):
            self._event_of(bare, parts)
            self.done = self._ended
        if self.done and not self._filled and not self._finished:
            raise CallError("the provider ended its answer with nothing in it", code="truncated")
        if self.done:
            self._end_calls(parts)
        return parts

    def _end_calls(self, parts: list[Part]) -> None:
        """``[DONE]`` without a finish reason: the tool calls of such an answer are called, if they are whole."""
        for index, tools in self._tools.items():
            if index not in self._finished:
                if not tools.whole:
                    raise CallError("the provider ended its answer within a tool call's arguments", code="truncated")
                self._finished.add(index)
                parts.append(Finish(index, "tool_calls", "tool_calls"))

    def _event(self, data: bytes, parts: list[Part]) -> None:
        if data == b"[DONE]":
            self.done = True
        else:
            self._chunk(data, parts)

    def _chunk(self, data: bytes, parts: list[Part]) -> None:
        try:
            chunk = _decode_chunk(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            if (failure := error_of(data)) is not None:
                raise failure from None
            chunk = _lenient(data)
        failed = chunk.error is not _NOTHING and _json(chunk.error)
        if (failed or not chunk.choices) and (failure := error_of(data)) is not None:
            raise failure
        if not self._informed and (chunk.id or chunk.model):
            self._informed = True
            parts.append(ResponseInfo(chunk.id or "", chunk.model or ""))
        self._extra(None, chunk, OF_THE_ANSWER, parts)
        known = len(parts)
        for choice in chunk.choices or ():
            self._choice(choice, parts)
        usage = chunk.usage or (chunk.x_groq and chunk.x_groq.get("usage"))
        if not usage and len(parts) == known + 1:
            self._template.learn(data, parts[known])
        if usage and (tokens := self._usage.read(usage)) is not None:
            parts.append(tokens)

    def _choice(self, choice: _Choice, parts: list[Part]) -> None:
        if not 0 <= choice.index < MOST_CHOICES:
            message = f"the provider sent a choice with the index {choice.index}; at most {MOST_CHOICES} are read"
            raise CallError(message, code="provider")
        self._open.add(choice.index)
        if choice.message is not _NOTHING and choice.delta is _NOTHING:
            choice.delta = choice.message
        delta = read_delta(choice)
        if delta is not None:
            self._filled.add(choice.index)
            if delta.tools:
                delta = self._tools_of(choice.index).numbered(delta)
            parts.append(delta)
            if self._calling is not None and delta.tools:
                self._calling.add(choice.index)
        if choice.finish_reason:
            self._extra(choice.index, choice, OF_A_CHOICE, parts)
            self._finished.add(choice.index)
            reason = finish_reason(choice.finish_reason)
            if reason == "stop" and self._calling and choice.index in self._calling:
                reason = "tool_calls"
            parts.append(Finish(choice.index, reason, choice.finish_reason))

    def _extra(self, index: int | None, source: _Chunk | _Choice, names: Iterable[str], parts: list[Part]) -> None:
        """What stands beside the delta and is new. Values are parsed once: they are the same in every chunk."""
        found: dict[str, Any] = {}
        for name in names:
            raw = getattr(source, name)
            if raw is not _NOTHING and name in self._keeps and self._seen_extra.get((index, name)) != raw:
                self._seen_extra[index, name] = raw
                if (value := _value(raw)) is not None:
                    found[name] = value
        if found:
            parts.append(Extra(found, index))

    def _tools_of(self, choice: int) -> ToolIndexes:
        found = self._tools.get(choice)
        if found is None:
            found = self._tools[choice] = ToolIndexes()
        return found


def finish_reason(raw: str) -> str:
    """OpenAI's word for a provider's, or the provider's own where there is none. Raises ``CallError`` for a failure."""
    word = raw.lower()
    if word in FAILURES:
        raise CallError(f"the provider ended the answer with {word!r}", code=FAILURES[word], provider_code=raw)
    found = FINISH_REASONS.get(word)
    return found or ("content_filter" if word.startswith("content_filter") else raw)


def read_delta(choice: _Choice) -> Delta | None:
    """The delta of a choice; ``None`` when it only says who speaks, or comes empty with the finish reason."""
    raw = _json(choice.delta) or b"{}"
    try:
        text: _Text = _decode_only_text(raw)
    except msgspec.MsgspecError:
        raw = _in_text(raw)
        text = _any_text(raw)
    content = text.content or ""
    reasoning = text.reasoning_content or text.reasoning or ""
    tools = b"" if text.tool_calls is _NOTHING else _json(text.tool_calls)
    logprobs = b"" if choice.logprobs is _NOTHING else _json(choice.logprobs)
    if content and raw == _content_alone(content):  # most deltas; what follows reads them a second time
        return Delta(choice.index, raw, content, logprobs=logprobs, exact=True)
    fields = _fields(raw)
    says_nothing = not (content or reasoning or text.refusal or tools or logprobs)
    if says_nothing and (text.role or text.content is None or choice.finish_reason) and _only_known(fields):
        return None
    exact = not tools and _is_exact(fields, reasoning)
    return Delta(choice.index, raw, content, reasoning, text.refusal or "", tools, logprobs, exact)


def _content_alone(content: str) -> bytes:
    try:
        return b'{"content":%b}' % _encode(content)
    except UnicodeEncodeError:  # half a surrogate pair
        return b""


def _fields(raw: bytes) -> list[tuple[str, Any]]:
    """The members of an object as they stand, repeated keys included."""
    members = json.loads(raw, object_pairs_hook=list)
    return members if isinstance(members, list) else []


def _only_known(fields: list[tuple[str, Any]]) -> bool:
    return all(name in _Text.__struct_fields__ for name, value in fields if value is not None)


_TEXTS = frozenset({"content", "reasoning_content", "reasoning", "refusal", "role"})
_NULLS = frozenset({
    "annotations", "audio", "function_call", "name", "provider_specific_fields", "reasoning_details", "thinking",
    "thinking_blocks", "tool_call_id", "tool_calls",
})  # fmt: skip
"""Keys that providers send without a value."""
_KNOWN = _TEXTS | _NULLS


def _is_exact(fields: list[tuple[str, Any]], reasoning: str) -> bool:
    given = dict(fields)
    if len(given) < len(fields) or given.get("role") not in (None, "assistant"):
        return False
    for name, value in fields:
        known = isinstance(value, str) if value is not None and name in _TEXTS else value is None and name in _KNOWN
        if not known:
            return False
    return all((given.get(name) or reasoning) == reasoning for name in ("reasoning", "reasoning_content"))


def _in_text(raw: bytes) -> bytes:
    """Mistral's reasoning models send content in blocks: as OpenAI's form has it. Any other delta stays as it is."""
    fields = json.loads(raw)
    blocks = fields.get("content") if isinstance(fields, dict) else None
    if not isinstance(blocks, list):
        return raw
    blocks = [block for block in blocks if isinstance(block, dict)]
    thoughts = [block.get("thinking") or () for block in blocks if block.get("type") == "thinking"]
    said = {
        "content": _joined(blocks),
        "reasoning_content": "".join(t if isinstance(t, str) else _joined(t) for t in thoughts),
    }
    return json.dumps({**fields, "content": None, **{name: text for name, text in said.items() if text}}).encode()


def _joined(blocks: Any) -> str:
    return "".join(block.get("text") or "" for block in blocks if block.get("type") == "text")


def _any_text(raw: bytes) -> _Text:
    try:
        return _decode_text(raw)
    except msgspec.MsgspecError:
        return _lenient_text(raw)


def _json(raw: msgspec.Raw) -> bytes:
    """The bytes of a value; none for ``null`` and for what is not there."""
    data = bytes(raw)
    return b"" if data == b"null" else data


def _value(raw: msgspec.Raw) -> Any:
    """``None`` for what msgspec cannot read too, such as half a surrogate pair: it is left out."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _lenient(data: bytes) -> _Chunk:
    """A chunk that holds half of a surrogate pair: legal JSON, which msgspec refuses. It keeps its escapes."""
    try:
        chunk = json.loads(data)
        for choice in chunk.get("choices") or ():
            for name in ("delta", "message", "logprobs"):
                given = choice.pop(name, None)
                if given is not None:
                    choice[name] = msgspec.Raw(json.dumps(given, separators=(",", ":")).encode())
            for name in OF_A_CHOICE:
                choice.pop(name, None)
        for name in OF_THE_ANSWER:
            chunk.pop(name, None)
        chunk.pop("error", None)  # one that says something was raised by the caller
        return msgspec.convert(chunk, _Chunk)
    except (ValueError, AttributeError, TypeError, RecursionError, msgspec.MsgspecError) as error:
        raise wrong_form(data) from error


def _lenient_text(raw: bytes) -> _Text:
    """A delta that holds half of a surrogate pair. Raises ``CallError`` for one whose texts are no texts."""
    try:
        fields = json.loads(raw)
        tools = fields.get("tool_calls")
        given = {name: fields.get(name) for name in ("content", "reasoning_content", "reasoning", "refusal", "role")}
    except (ValueError, AttributeError, RecursionError) as error:
        raise CallError(f"the provider sent a delta that is no object ({len(raw)} bytes)", code="provider") from error
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            kind = type(value).__name__
            raise CallError(f"the provider sent a delta whose {name} is no text but a {kind}", code="provider")
    return _Text(**given, tool_calls=msgspec.Raw(json.dumps(tools).encode()) if tools else _NOTHING)
