"""The port to whoever generates: a call goes in, parts come out, and ending without the end signal is an error.

A `ChatModel` yields lists of parts (what one read of the socket held) so that the token path pays per read, not
per token. Closing the iterator closes the upstream, always: consume it under ``contextlib.aclosing``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
from railstream.events import Usage


class Taker(Protocol):
    """A reader that is handed parts by the event loop itself while its task waits: most of what a wake costs is saved.

    The first content always comes through `ChatModel.stream`, and so does what comes while the reader is not ready.
    """

    def ready(self) -> bool:
        """Whether the reader waits for parts, and has room for them."""

    def take(self, parts: Sequence[Part]) -> None: ...


class Again(NamedTuple):
    """A run that an earlier attempt has begun. ``call``: the name of the call that began it."""

    call: str
    model: ChatModel


class Runs(Protocol):
    """Keeps which run of its provider makes an answer, so that whoever takes over can read the same run.

    Where a call has none, nobody takes over: the model cancels the run when the call is left.
    """

    @property
    def again(self) -> Again | None:
        """The run that the next call is to go on with, if there is one."""

    def recorded(self, usage: Usage) -> Usage | None:
        """The usage record of a call that has ended; ``None`` when its run goes on elsewhere or is recorded already."""

    def read_again(self, call: Call) -> str:
        """The run that the call is to go on with; empty when it begins one. Raises ``CallError``: it cannot."""

    def begun(self, run: str, call: Call, model: ChatModel) -> None:
        """The model's provider has begun a run: it is being stored from now on."""

    async def stored(self) -> None:
        """Wait until the run is stored. Nothing of it may be released before."""

    def ended(self) -> None:
        """The run's end was read."""

    async def forget(self) -> None:
        """The run is of no use any more: the call has failed."""

    async def gone(self) -> None:
        """The provider does not let the run be read again."""


class Call(msgspec.Struct, frozen=True):
    """One LLM call. ``params`` are OpenAI's request options; the model's own defaults stand below them."""

    model: str
    messages: Sequence[Mapping[str, Any]]
    params: Mapping[str, Any] = {}
    task: str = "general"
    """``general`` for the answer itself, else the rail's task, such as ``self_check_output``."""
    request_id: str = ""
    """``<completion id>.<attempt>.<n>``: sent upstream as ``X-Request-Id``, so that two ledgers can be compared."""
    traceparent: str = ""
    """Of the call's span, for the provider's own traces; empty when nothing is traced."""
    taker: Taker | None = None
    """Who reads, if it can be handed parts directly; a model may do without."""
    runs: Runs | None = None
    """Of the answer itself, where another worker may take it over."""


class Delta(msgspec.Struct, frozen=True, gc=False):
    """One increment of one choice. ``raw`` is the provider's delta object, byte for byte; the rest is read from it."""

    index: int
    raw: bytes
    content: str = ""
    reasoning: str = ""
    refusal: str = ""
    tools: bytes = b""
    """JSON of ``tool_calls``, when the delta has some."""
    logprobs: bytes = b""
    """JSON of the choice's ``logprobs``, when it has some."""
    exact: bool = False
    """``raw`` is an object of the texts above alone: each key stands once, beside at most ``"role": "assistant"``. Only
    then do rails that have read the texts know all that ``raw`` says."""

    @property
    def size(self) -> int:
        """Characters of its text, for an estimate of its tokens."""
        return len(self.content) or len(self.reasoning) + len(self.refusal) + len(self.tools)


class Finish(msgspec.Struct, frozen=True, gc=False):
    """A choice ended. ``reason`` is OpenAI's word for it; ``raw_reason`` the provider's."""

    index: int
    reason: str
    raw_reason: str


class TokenCount(msgspec.Struct, frozen=True):
    """Tokens so far, cumulative: the latest counts, never a sum. Buckets are inclusive."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_tokens: int = 0
    raw: dict[str, Any] = {}
    """The provider's own usage object, in OpenAI's form where it has one."""


class ResponseInfo(msgspec.Struct, frozen=True):
    """What the provider says of itself, once per call: its response id and the model that really answers."""

    id: str = ""
    model: str = ""


class Extra(msgspec.Struct, frozen=True):
    """What the provider says beside the delta, as `railstream.extra_fields` lists it: the latest of each counts."""

    fields: dict[str, Any]
    index: int | None = None
    """Of the choice that it is about; ``None``: the answer."""


Part = Delta | Finish | TokenCount | ResponseInfo | Extra


class ChatModel(Protocol):
    """One configured model. Raises `railstream.errors.CallError`, with ``truncated`` when the end signal is missing.

    Whatever fails after the first content carries the text so far as its ``partial``.
    """

    name: str
    """The configured model name: the only one that becomes a metric label."""
    provider: str
    address: str
    port: int

    def stream(self, call: Call) -> AsyncGenerator[Sequence[Part], None]: ...

    async def aclose(self) -> None: ...
