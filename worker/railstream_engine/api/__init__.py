"""The Python API: `LLMRails` and what it gives, in the caller's own process and without Redis."""

from railstream_engine.api.explain import ExplainInfo, LLMCallInfo
from railstream_engine.api.handler import END_OF_STREAM, StreamingHandler
from railstream_engine.api.llm_rails import LLMRails
from railstream_engine.api.options import GenerationOptions
from railstream_engine.api.response import (
    ActivatedRail,
    GenerationLog,
    GenerationResponse,
    RailsResult,
    RailStatus,
    RailType,
)

__all__ = [
    "END_OF_STREAM",
    "ActivatedRail",
    "ExplainInfo",
    "GenerationLog",
    "GenerationOptions",
    "GenerationResponse",
    "LLMCallInfo",
    "LLMRails",
    "RailStatus",
    "RailType",
    "RailsResult",
    "StreamingHandler",
]
