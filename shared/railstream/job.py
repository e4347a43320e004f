"""A job: one accepted request, as it travels from the gateway to a worker through the job stream.

Frozen, encoded once by the gateway and decoded once by the worker. Trace context travels in the message's
headers; the creation context alone stands here too, because the stream's first event carries it.

A worker runs only a job that it understands: of a known ``kind`` and of no later `VERSION` than its own. Any other is
left to newer workers, or ended by the id of its envelope.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal, TypeVar

import msgspec

from railstream.ids import is_request_id

VERSION: Final = 1
"""Of the jobs that this release writes, and the latest that it understands. It grows with a change that a worker of
the version before would run as something else; a field that may be ignored needs none."""
T = TypeVar("T")
KINDS: Final = frozenset({"chat", "checks", "flow"})


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of several answers of one job, on one stream. ``needs`` and ``context_from`` name others of the job."""

    id: str
    model: str
    configs: tuple[str, ...]
    config_digest: str = ""
    """See `Job.config_digest`."""
    instruction: str = ""
    """Empty: what is asked are the job's messages."""
    branch: str = ""
    """Operations of one branch go one after the other, each with what was said there before; with a session, the
    branch is a stored one."""
    needs: tuple[str, ...] = ()
    """All that must have finished first, those of ``context_from`` among them."""
    context_from: tuple[str, ...] = ()
    """Those whose answers stand before the instruction."""


class Job(msgspec.Struct, frozen=True, omit_defaults=True):
    """``created`` in unix seconds; ``configs`` are rails config ids; ``params`` go to the provider as they are."""

    id: str
    model: str
    created: float
    configs: tuple[str, ...]
    messages: list[dict[str, Any]]
    params: dict[str, Any] = {}
    kind: str = "chat"
    """``chat``, ``checks``: rails over the messages, without generating, or ``flow``: a graph of operations."""
    stream: bool = True
    include_usage: bool = False
    tenant: str = ""
    """Digest of the API key that sent it; empty when no keys are configured."""
    session: str = ""
    branch: str = ""
    """Of a conversation, when the request belongs to one: its turn has been begun there. A flow has no branch; those
    of its operations are held for it."""
    traceparent: str = ""
    """The context that the job was created in, for links from later traces."""
    config_digest: str = ""
    """Of the config as the gateway resolved it: a worker that holds another one never runs the job. Empty: the gateway
    is of a release that sends none."""
    context: dict[str, Any] = {}
    operations: tuple[Operation, ...] = ()
    concurrency: int = 8
    on_failure: Literal["stop", "continue"] = "continue"
    """What the failure of an operation means for those that do not wait for it."""
    options: dict[str, Any] = {}
    """NeMo's generation options: ``rails``, ``log``, …"""
    version: int = 0
    """`encode` writes it; 0 in a job of a release that had none."""
    deadline: float = 0
    """Unix seconds, by the clock that ``created`` was read from: past it no first attempt begins. 0: none."""


class Envelope(msgspec.Struct, frozen=True):
    """What can be read of a job that cannot be decoded. ``id`` is empty when not even that can."""

    id: str = ""
    version: int = 0
    kind: str = "chat"

    @property
    def is_understood(self) -> bool:
        """Whether this release knows what such a job asks for."""
        return self.version <= VERSION and self.kind in KINDS


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Job)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_FIRST_MEMBER = re.compile(rb'\s*\{\s*"id"\s*:\s*"(chatcmpl-[0-9a-f]{32})"')


def encode(job: Job) -> bytes:
    """The job as this release writes it: with `VERSION`."""
    return _encoder.encode(msgspec.structs.replace(job, version=VERSION))


def decode(data: bytes) -> Job:
    """``ValueError`` when it is not a job, or one that this release does not understand.

    Its message holds none of the bytes: they may be somebody's prompt.
    """
    try:
        job = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not a job: {error}") from error
    if job.version > VERSION:
        raise ValueError(f"a job of version {job.version}; this release understands versions up to {VERSION}")
    if job.kind not in KINDS:
        raise ValueError(f"a job of kind {job.kind[:40]!r}; this release knows {', '.join(sorted(KINDS))}")
    return job


def read_envelope(data: bytes, message_id: str = "") -> Envelope:
    """What can be read of any bytes. ``message_id``: the request's id as the message around the job tells it."""
    try:
        members = _members(data)
    except (msgspec.MsgspecError, RecursionError):
        first = _FIRST_MEMBER.match(data)
        members = {"id": msgspec.Raw(b'"%b"' % first[1])} if first else {}
    id = _member(members, "id", str, "")
    if not is_request_id(id):
        id = message_id if is_request_id(message_id) else ""
    return Envelope(id, _member(members, "version", int, 0), _member(members, "kind", str, "chat"))


def _member(members: dict[str, msgspec.Raw], name: str, kind: type[T], default: T) -> T:
    try:
        return msgspec.json.decode(members[name], type=kind) if name in members else default
    except (msgspec.MsgspecError, RecursionError):
        return default
