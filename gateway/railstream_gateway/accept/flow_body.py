"""What is sent to ``/v1/flows`` and what is answered there."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from railstream_gateway.accept.chat_body import Message, Name, Positive


class FlowPlace(Struct, forbid_unknown_fields=True):
    """``railstream`` of a flow: the session whose branches its operations name."""

    session: Name | None = None


class FlowOperation(Struct, forbid_unknown_fields=True):
    """``branch``: one of the flow's session; without a session, a name that operations of this flow share."""

    id: Annotated[str, Meta(pattern="^[A-Za-z0-9_.-]{1,64}$")]
    instruction: Annotated[str, Meta(min_length=1)]
    model: Name | None = None
    branch: Name | None = None
    depends_on: list[Name] = []
    context_from: list[Name] = []
    config_id: Name | None = None


class FlowBody(Struct, forbid_unknown_fields=True):
    """``POST /v1/flows``. ``messages`` stand before every operation's instruction; they are kept on no branch."""

    operations: Annotated[list[FlowOperation], Meta(min_length=1, max_length=100)]
    messages: list[Message] = []
    stream: bool = False
    max_concurrent: Annotated[int, Meta(ge=1, le=32)] = 8
    on_failure: Literal["stop", "continue"] = "continue"
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Positive | None = None
    context: dict[str, Any] | None = None
    railstream: FlowPlace | None = None


class FlowOperationAnswer(Struct):
    """``cut``: the flow ended while it ran. One that was skipped has a ``reason`` and nothing else."""

    id: str
    index: int
    status: Literal["running", "finished", "failed", "skipped", "cut"]
    text: str | UnsetType = UNSET
    finish_reason: str | UnsetType = UNSET
    usage: dict[str, Any] | UnsetType | None = UNSET
    error: dict[str, Any] | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class FlowAnswer(Struct):
    """A flow that has ended. ``usage`` is the sum of what its operations told."""

    id: str
    object: Literal["flow"]
    created: int
    status: str
    operations: list[FlowOperationAnswer]
    usage: dict[str, Any] | None
    error: dict[str, Any] | UnsetType = UNSET


class FlowStatus(Struct):
    """A flow that runs, or that somebody has cancelled."""

    id: str
    object: Literal["flow"]
    created: int
    model: str
    status: str
