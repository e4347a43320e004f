"""The Python API: `LLMRails` and what it gives, in the caller's own process and without Redis."""

from railstream_worker.api.explain import ExplainInfo, LLMCallInfo
from railstream_worker.api.handler import END_OF_STREAM, StreamingHandler
from railstream_worker.api.llm_rails import LLMRails
from railstream_worker.api.options import GenerationOptions
from railstream_worker.api.response import (
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
