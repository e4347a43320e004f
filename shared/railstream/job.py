"""A job: one accepted request, as it travels from the gateway to a worker through the job stream.

Frozen, encoded once by the gateway and decoded once by the worker. Trace context travels in the message's
headers; the creation context alone stands here too, because the stream's first event carries it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of several answers of one job, on one stream. ``needs`` and ``context_from`` name others of the job."""

    id: str
    model: str
    configs: tuple[str, ...]
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
    context: dict[str, Any] = {}
    operations: tuple[Operation, ...] = ()
    concurrency: int = 8
    on_failure: Literal["stop", "continue"] = "continue"
    """What the failure of an operation means for those that do not wait for it."""
    options: dict[str, Any] = {}
    """NeMo's generation options: ``rails``, ``log``, …"""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Job)


def encode(job: Job) -> bytes:
    return _encoder.encode(job)


def decode(data: bytes) -> Job:
    """``ValueError`` when it is not a job. Its message holds none of the bytes: they may be somebody's prompt."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a job: {error}") from error
