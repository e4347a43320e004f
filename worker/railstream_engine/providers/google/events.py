"""Read the event stream of Google's generateContent. It is over once every candidate has its ``finishReason``.

Increments are rewritten into OpenAI's form, which is what flows through here; what that has no place for stands under
``extra_content.google``, as on Google's own compatible endpoint. Counts come with every chunk, and the last ones hold.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from railstream.errors import CallError

from railstream_engine.providers.http.error_events import error_of, reported
from railstream_engine.providers.http.event_lines import EventLines
from railstream_engine.providers.port import Delta, Finish, Part, ResponseInfo, TokenCount
from railstream_engine.providers.usage_counts import counted, kept

FILTERED: Final = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT"}
    | {"IMAGE_RECITATION", "MODEL_ARMOR", "ESCALATION", "PUP_LIMITED_DISABLED"}
)
FINISH_REASONS: Final = {
    "STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length", **dict.fromkeys(FILTERED, "content_filter")
}  # fmt: skip
"""All others say that the answer failed. After CONTINUATION there is more, which only another call would bring."""
MOST_CANDIDATES: Final = 128
_NOTHING: Final = msgspec.Raw(b"")


class _FunctionCall(msgspec.Struct, gc=False):
    id: str = ""
    name: str = ""
    args: msgspec.Raw = _NOTHING


class _Part(msgspec.Struct, gc=False, rename="camel"):
    text: str = ""
    thought: bool = False
    thought_signature: str = ""
    function_call: _FunctionCall | None = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] = []


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    index: int = 0
    content: _Content | None = None
    finish_reason: str = ""
    finish_message: str = ""
    safety_ratings: list[dict[str, Any]] = []


class _Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str = ""
    block_reason_message: str = ""


class _Response(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] = []
    prompt_feedback: _Feedback | None = None
    usage_metadata: dict[str, Any] | None = None
    model_version: str = ""
    response_id: str = ""


_decode = msgspec.json.Decoder(_Response).decode
_encode = msgspec.json.Encoder().encode


class ContentReader(EventLines):
    """Feed it bytes; it gives parts. Parts of an answer that it does not know are left out."""

    def __init__(self) -> None:
        super().__init__()
        self._response_id = ""
        self._informed = False
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._tools: dict[int, int] = {}
        """Tool calls so far, by candidate."""
        self._usage: dict[str, Any] = {}

    @property
    def complete(self) -> bool:
        """The provider has said that this is all."""
        return bool(self._finished) and self._open <= self._finished

    @property
    def whole(self) -> bool:
        """Google has no other end signal, and its counts come with the finish reason."""
        return self.complete

    def end(self) -> list[Part]:
        """A server, or a proxy before it, may answer with the JSON of a response, or of a list of them, or an error."""
        parts = super().end()
        if not self.complete and (bare := self._bare_json()):
            for response in _responses(bare):
                self._event_of(bytes(response), parts)
            if not self.complete:
                raise reported(bare)
        return parts

    def _event(self, data: bytes, parts: list[Part]) -> None:
        try:
            response = _decode(data)
        except msgspec.MsgspecError:
            if (failure := error_of(data)) is not None:
                raise failure from None
            raise
        if not response.candidates and (failure := error_of(data)) is not None:
            raise failure
        self._inform(response, parts)
        for candidate in response.candidates:
            if not 0 <= candidate.index < MOST_CANDIDATES:
                message = f"the provider sent a candidate with the index {candidate.index}"
                raise CallError(f"{message}; at most {MOST_CANDIDATES} are read", code="provider")
            self._open.add(candidate.index)
            for part in candidate.content.parts if candidate.content is not None else ():
                self._part(candidate.index, part, parts)
        self._count(response.usage_metadata, parts)
        for candidate in response.candidates:
            if candidate.finish_reason:
                self._finish(candidate, parts)
        feedback = response.prompt_feedback
        if feedback is not None and feedback.block_reason and not self._open:
            raise _blocked(feedback)

    def _inform(self, response: _Response, parts: list[Part]) -> None:
        if not self._informed and (response.response_id or response.model_version):
            self._informed, self._response_id = True, response.response_id
            parts.append(ResponseInfo(response.response_id, response.model_version))

    def _part(self, index: int, part: _Part, parts: list[Part]) -> None:
        if part.function_call is not None:
            parts.append(self._tool(index, part.function_call, part.thought_signature))
        elif part.thought and part.text:
            parts.append(Delta(index, _encode({"reasoning_content": part.text}), reasoning=part.text, exact=True))
        elif part.text or part.thought_signature:
            said = {"content": part.text} if part.text else {}
            parts.append(
                Delta(
                    index, _encode(said | _signed(part.thought_signature)), part.text, exact=not part.thought_signature
                )
            )

    def _tool(self, index: int, call: _FunctionCall, signature: str) -> Delta:
        number = self._tools.get(index, 0)
        self._tools[index] = number + 1
        function = {"name": call.name, "arguments": bytes(call.args).decode() or "{}"}
        # Older models name no id; a client must have one to answer to.
        id = call.id or f"call_{self._response_id or 'gemini'}_{index}_{number}"
        tools = _encode([{"index": number, "id": id, "type": "function", "function": function, **_signed(signature)}])
        return Delta(index, b'{"tool_calls":%b}' % tools, tools=tools)

    def _finish(self, candidate: _Candidate, parts: list[Part]) -> None:
        index, raw = candidate.index, candidate.finish_reason
        reason = FINISH_REASONS.get(raw)
        if reason is None:
            why = f": {candidate.finish_message}" if candidate.finish_message else ""
            raise CallError(f"the provider ended the answer with {raw!r}{why}", code="provider", provider_code=raw)
        if reason == "content_filter" and candidate.safety_ratings:
            ratings = {"google": {"finish_reason": raw, "safety_ratings": candidate.safety_ratings}}
            parts.append(Delta(index, _encode({"extra_content": ratings})))
        self._finished.add(index)
        parts.append(Finish(index, "tool_calls" if reason == "stop" and index in self._tools else reason, raw))

    def _count(self, usage: dict[str, Any] | None, parts: list[Part]) -> None:
        counts = {name: count for name, count in (usage or {}).items() if name in COUNTS and count is not None}
        counts = kept(self._usage, counts)
        if counts != self._usage:
            self._usage = counts
            parts.append(token_count(self._usage))


def _responses(bare: bytes) -> list[msgspec.Raw]:
    """The JSON of each response; none where it is no JSON."""
    try:
        if bare[:1] == b"[":
            return msgspec.json.decode(bare, type=list[msgspec.Raw])
        return [msgspec.json.decode(bare, type=msgspec.Raw)]
    except msgspec.MsgspecError:
        return []


COUNTS: Final = frozenset(
    {"promptTokenCount", "toolUsePromptTokenCount", "cachedContentTokenCount", "candidatesTokenCount"}
    | {"thoughtsTokenCount"}
)


def _signed(signature: str) -> dict[str, Any]:
    return {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}


def _blocked(feedback: _Feedback) -> CallError:
    why = f": {feedback.block_reason_message}" if feedback.block_reason_message else ""
    message = f"the provider blocked the prompt ({feedback.block_reason}){why}"
    return CallError(message, code="content_filtered", provider_code=feedback.block_reason)


def token_count(usage: dict[str, Any]) -> TokenCount:
    """Google's usage object as inclusive buckets, and in OpenAI's form: thoughts stand beside the candidates there."""
    asked = counted(usage, "promptTokenCount") + counted(usage, "toolUsePromptTokenCount")
    cached = counted(usage, "cachedContentTokenCount")
    thought = counted(usage, "thoughtsTokenCount")
    said = counted(usage, "candidatesTokenCount") + thought
    raw = {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    return TokenCount(asked, said, cached, reasoning_tokens=thought, raw=raw)
