"""Guarded, durable LLM chat completions. The public door: what a Python program imports.

Every name is loaded on first use, so `import railstream` costs nothing and needs no extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from railstream_engine.api import (
        ExplainInfo,
        GenerationOptions,
        GenerationResponse,
        LLMRails,
        RailsResult,
        RailStatus,
        RailType,
        StreamingHandler,
    )
    from railstream_engine.providers.huggingface.model import AsyncTextIteratorStreamer, HuggingFacePipelineCompatible
    from railstream_engine.providers.port import ChatModel
    from railstream_engine.providers.scripted import ScriptedModel
    from railstream_engine.rails.judges.actions import action
    from railstream_engine.rails.judges.verdict import Verdict, allow, block, rewrite
    from railstream_engine.sessions import (
        AssistantResponseContent,
        Branch,
        Builder,
        InstructionContent,
        Message,
        Session,
        communicate,
        flow_stream,
        iModel,
        prepare_messages_for_chat,
    )

    from railstream.config import RailsConfig
    from railstream.errors import CallError, ConfigurationError, RailstreamError, StreamingNotSupportedError

_API: Final = "railstream_engine.api"
_VERDICT: Final = "railstream_engine.rails.judges.verdict"
_SESSIONS: Final = "railstream_engine.sessions"
_HUGGINGFACE: Final = "railstream_engine.providers.huggingface.model"

_HOMES: Final = {
    "AssistantResponseContent": _SESSIONS,
    "AsyncTextIteratorStreamer": _HUGGINGFACE,
    "Branch": _SESSIONS,
    "Builder": _SESSIONS,
    "CallError": "railstream.errors",
    "ChatModel": "railstream_engine.providers.port",
    "ConfigurationError": "railstream.errors",
    "ExplainInfo": _API,
    "GenerationOptions": _API,
    "GenerationResponse": _API,
    "HuggingFacePipelineCompatible": _HUGGINGFACE,
    "InstructionContent": _SESSIONS,
    "LLMRails": _API,
    "Message": _SESSIONS,
    "RailStatus": _API,
    "RailType": _API,
    "RailsConfig": "railstream.config",
    "RailsResult": _API,
    "RailstreamError": "railstream.errors",
    "ScriptedModel": "railstream_engine.providers.scripted",
    "Session": _SESSIONS,
    "StreamingHandler": _API,
    "StreamingNotSupportedError": "railstream.errors",
    "Verdict": _VERDICT,
    "action": "railstream_engine.rails.judges.actions",
    "allow": _VERDICT,
    "block": _VERDICT,
    "communicate": _SESSIONS,
    "flow_stream": _SESSIONS,
    "iModel": _SESSIONS,
    "prepare_messages_for_chat": _SESSIONS,
    "rewrite": _VERDICT,
}

__all__ = [
    "AssistantResponseContent",
    "AsyncTextIteratorStreamer",
    "Branch",
    "Builder",
    "CallError",
    "ChatModel",
    "ConfigurationError",
    "ExplainInfo",
    "GenerationOptions",
    "GenerationResponse",
    "HuggingFacePipelineCompatible",
    "InstructionContent",
    "LLMRails",
    "Message",
    "RailStatus",
    "RailType",
    "RailsConfig",
    "RailsResult",
    "RailstreamError",
    "ScriptedModel",
    "Session",
    "StreamingHandler",
    "StreamingNotSupportedError",
    "Verdict",
    "action",
    "allow",
    "block",
    "communicate",
    "flow_stream",
    "iModel",
    "prepare_messages_for_chat",
    "rewrite",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(home), name)
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package == __name__:
            raise
        raise ImportError(
            f"railstream.{name} needs {package!r}, which is not installed: pip install 'railstream[worker]'"
        ) from missing
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
