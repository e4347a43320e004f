"""Conversations in the caller's process: sessions with branches, models, and graphs that stream."""

from railstream_engine.sessions.builder import Builder, Operation
from railstream_engine.sessions.chunks import Chunk, PartialAnswerError, Response
from railstream_engine.sessions.flow import (
    FlowError,
    FlowEvent,
    OperationChunk,
    OperationFinished,
    OperationSkipped,
    OperationStarted,
    flow_events,
    flow_stream,
)
from railstream_engine.sessions.imodel import Invocation, iModel
from railstream_engine.sessions.messages import (
    AssistantResponseContent,
    InstructionContent,
    Message,
    SystemContent,
    prepare_messages_for_chat,
)
from railstream_engine.sessions.session import Branch, Session
from railstream_engine.sessions.turns import communicate, stream_turn

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
