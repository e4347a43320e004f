"""What a model's answer comes in: chunks, the last of which says how it ended; and the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from railstream.errors import CallError

Kind = Literal["text", "reasoning", "refusal", "tool_calls", "end"]
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Chunk:
    """One increment. ``str()`` of it is its text.

    ``data`` is text of the answer and empty for every kind but ``text``; what the others bring stands in
    ``metadata``, under their kind. The last chunk is of kind ``end`` and has ``finish_reason`` and ``usage``.
    """

    data: str
    seq: int
    kind: Kind = "text"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    raw: bytes = b""
    """The provider's own delta object, byte for byte."""

    @property
    def raw_response(self) -> Any:
        """The provider's own object, decoded."""
        return _decode(self.raw) if self.raw else None

    @property
    def finish_reason(self) -> str | None:
        """OpenAI's word for how it ended; ``None`` before the end."""
        return self.metadata.get("finish_reason")

    @property
    def usage(self) -> Mapping[str, Any] | None:
        """OpenAI's usage object, at the end, if the provider sent one: never an estimate."""
        return self.metadata.get("usage")

    def __str__(self) -> str:
        return self.data


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer."""

    data: str
    metadata: Mapping[str, Any]
    raw_response: Any = None
    """The deltas as the provider sent them."""

    @property
    def finish_reason(self) -> str | None:
        return self.metadata.get("finish_reason")

    @property
    def usage(self) -> Mapping[str, Any] | None:
        return self.metadata.get("usage")

    def __str__(self) -> str:
        return self.data


class PartialAnswerError(CallError):
    """An LLM call failed; ``partial`` is the text that had come by then."""

    def __init__(self, error: CallError, partial: str) -> None:
        super().__init__(
            error.message,
            code=error.code,
            provider_code=error.provider_code,
            provider_request_id=error.provider_request_id,
            retry_after=error.retry_after,
            param=error.param,
        )
        self.partial = partial
