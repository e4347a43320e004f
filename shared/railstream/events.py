"""The closed set of events that flow back on a request's stream, and their JSON.

Entry fields are ``event`` and ``data``. A stream ends with its first terminal event; whoever reads past it
has a bug. ``chunk`` is the hot one: its data is the delta object alone, as the provider sent it, and it is
never decoded on the way. A delta of another choice than the first, or with logprobs, brings a third field
``choice`` (JSON: ``{"index": 1, "logprobs": ...}``). Where one stream carries several operations, each is a choice of
its own, and the field also names it: ``{"index": 1, "operation": "..."}``.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from railstream.deltas import well_formed
from railstream.ids import EventId

STARTED: Final = b"started"
CHUNK: Final = b"chunk"
RESTARTED: Final = b"restarted"
USAGE: Final = b"usage"
FINISHED: Final = b"finished"
BLOCKED: Final = b"blocked"
FAILED: Final = b"failed"
CANCELLED: Final = b"cancelled"

OPERATION_STARTED: Final = b"operation_started"
OPERATION_FINISHED: Final = b"operation_finished"
OPERATION_SKIPPED: Final = b"operation_skipped"

VERSION: Final = 1
"""Of the events. It grows with a change that a reader of the version before would take for something else."""

TERMINAL: Final = frozenset({FINISHED, BLOCKED, FAILED, CANCELLED})
OPERATIONS: Final = frozenset({OPERATION_STARTED, OPERATION_FINISHED, OPERATION_SKIPPED})
EVENTS: Final = TERMINAL | OPERATIONS | {STARTED, CHUNK, RESTARTED, USAGE}


class Event(NamedTuple):
    """One entry of a request's stream, undecoded. ``choice`` is empty for the first choice without logprobs."""

    id: EventId
    name: bytes
    data: bytes
    choice: bytes = b""

    @property
    def terminal(self) -> bool:
        return self.name in TERMINAL


class Started(msgspec.Struct, frozen=True, omit_defaults=True):
    """What every later event of the stream shares. ``created`` in unix seconds."""

    id: str
    model: str
    created: int
    configs: tuple[str, ...] = ()
    stream: bool = True
    include_usage: bool = False
    traceparent: str = ""
    nonce: str = ""
    """Random: a stream that was lost whole and written anew is another one, though its ids are the same."""
    version: int = 0
    """Of the events that follow, `VERSION` of the worker that wrote them; 0 of a release that had none."""


class Restarted(msgspec.Struct, frozen=True):
    """A new attempt took over. ``after``: the last event id that it found; a reader that is past it saw lost text."""

    attempt: int
    after: str
    reason: str
    """``lease_expired``, ``handed_over``, or ``job_lost``: a gateway ended it, since no worker would."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of one LLM call. Buckets are inclusive: input holds cached ones, output holds reasoning ones.

    Counts are ``None`` when the provider sent none: never an estimate.
    """

    call: str
    """Unique per call: ``<attempt>.<n>``."""
    task: str
    """``general`` for the answer itself, else the rail's task, such as ``self_check_output``."""
    model: str
    provider: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_tokens: int = 0
    estimated_input_tokens: int | None = None
    estimated_output_tokens: int | None = None
    """Our own estimates of a call that the provider has not counted; ``None`` where it has."""
    outcome: str = "finished"
    """``finished``, ``cancelled``, ``failed`` or ``lost`` (its worker died)."""
    complete: bool = True
    """False when the call was cut before the provider's final figure: the counts are what was known by then."""
    seconds: float = 0.0
    chunks: int = 0


class Finished(msgspec.Struct, frozen=True, omit_defaults=True):
    """``finish_reasons`` by choice index. ``usage`` is OpenAI's usage object of the answer, if the provider sent it."""

    finish_reasons: tuple[str, ...]
    usage: dict[str, Any] | None = None
    log: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    """Of a job that generates nothing (``/v1/checks``): its answer."""
    extra: dict[str, Any] = {}
    """What the provider has said beside the choices: see `railstream.extra_fields`."""
    choice_extra: tuple[dict[str, Any], ...] = ()
    """Likewise beside the finish reason, by choice index."""
    operations: int = 0
    """How many it had. Then each has told its own finish, and ``usage`` is the sum of what is known."""


class Blocked(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rail stopped the text. ``form`` says how the client is told: ``error``, ``content_filter`` or ``refusal``."""

    flow: str
    stage: str
    """``input`` or ``output``."""
    error: dict[str, Any]
    form: str
    refusal: str
    usage: dict[str, Any] | None = None
    log: dict[str, Any] | None = None
    structured: bool = False
    """The request asked for structured output: the refusal's text is no answer in that form."""
    choices: int = 1
    """How many were asked for."""


class Failed(msgspec.Struct, frozen=True, omit_defaults=True):
    error: dict[str, Any]
    status: int = 500
    retryable: bool = False
    retry_after: float | None = None
    usage: dict[str, Any] | None = None
    upstream_request_id: str = ""
    """The provider's own id of the call that failed; empty for a guarded request."""


class Cancelled(msgspec.Struct, frozen=True, omit_defaults=True):
    reason: str
    """``request`` (somebody asked) or ``disconnect`` (the last reader left)."""
    usage: dict[str, Any] | None = None


class OperationStarted(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of several operations begins, or goes on in a later attempt. ``index`` is that of its choice."""

    operation: str
    index: int
    model: str
    branch: str = ""
    configs: tuple[str, ...] = ()


class OperationFinished(msgspec.Struct, frozen=True, omit_defaults=True):
    """``finish_reason``: OpenAI's word; ``error`` when the operation failed, and then there is an ``error``."""

    operation: str
    index: int
    finish_reason: str
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class OperationSkipped(msgspec.Struct, frozen=True):
    operation: str
    index: int
    reason: str


Operations = OperationStarted | OperationFinished | OperationSkipped
Payload = Started | Restarted | Usage | Operations | Finished | Blocked | Failed | Cancelled

_NAMES: Final[dict[type, bytes]] = {
    Started: STARTED,
    Restarted: RESTARTED,
    Usage: USAGE,
    OperationStarted: OPERATION_STARTED,
    OperationFinished: OPERATION_FINISHED,
    OperationSkipped: OPERATION_SKIPPED,
    Finished: FINISHED,
    Blocked: BLOCKED,
    Failed: FAILED,
    Cancelled: CANCELLED,
}
_DECODERS: Final[dict[bytes, msgspec.json.Decoder[Payload]]] = {
    name: msgspec.json.Decoder(kind) for kind, name in _NAMES.items()
}
_encode = msgspec.json.Encoder().encode


def encode(payload: Payload) -> tuple[bytes, bytes]:
    """``(event, data)`` of a payload, ready for XADD. Halves of surrogate pairs in its texts are joined or replaced."""
    try:
        return _NAMES[type(payload)], _encode(payload)
    except UnicodeEncodeError:
        return _NAMES[type(payload)], _encode(well_formed(msgspec.to_builtins(payload)))


def decode(event: Event) -> Payload:
    """The payload of any event but ``chunk``; ``ValueError`` with the bytes when it is not one."""
    try:
        decoded: Payload = _DECODERS[event.name].decode(event.data)
    except (KeyError, msgspec.MsgspecError) as error:
        raise ValueError(f"not an event: {event.name!r} {event.data[:200]!r}") from error
    return decoded


def decode_usage(data: bytes) -> Usage:
    """The payload of a ``usage`` event."""
    return msgspec.json.decode(data, type=Usage)
