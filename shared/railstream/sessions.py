"""The door to conversations: sessions, models, graphs that stream. Every name is loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from railstream_engine.sessions import (
        AssistantResponseContent,
        Branch,
        Builder,
        Chunk,
        FlowError,
        FlowEvent,
        InstructionContent,
        Invocation,
        Message,
        Operation,
        OperationChunk,
        OperationFinished,
        OperationSkipped,
        OperationStarted,
        PartialAnswerError,
        Response,
        Session,
        SystemContent,
        communicate,
        flow_events,
        flow_stream,
        iModel,
        prepare_messages_for_chat,
        stream_turn,
    )

__all__ = [
    "AssistantResponseContent",
    "Branch",
    "Builder",
    "Chunk",
    "FlowError",
    "FlowEvent",
    "InstructionContent",
    "Invocation",
    "Message",
    "Operation",
    "OperationChunk",
    "OperationFinished",
    "OperationSkipped",
    "OperationStarted",
    "PartialAnswerError",
    "Response",
    "Session",
    "SystemContent",
    "communicate",
    "flow_events",
    "flow_stream",
    "iModel",
    "prepare_messages_for_chat",
    "stream_turn",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from railstream_engine import sessions
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        raise ImportError(
            f"railstream.sessions.{name} needs {package!r}, which is not installed: pip install 'railstream[worker]'"
        ) from missing
    value = globals()[name] = getattr(sessions, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
