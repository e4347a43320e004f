"""A chat completion's options in the words of Google's generateContent: one that has no counterpart is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from railstream.errors import CallError

RENAMED: Final = {
    "temperature": "temperature", "top_p": "topP", "top_k": "topK", "n": "candidateCount", "seed": "seed",
    "max_tokens": "maxOutputTokens", "max_completion_tokens": "maxOutputTokens",
    "max_output_tokens": "maxOutputTokens",
    "presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty",
    "thinking_config": "thinkingConfig", "response_modalities": "responseModalities",
    "media_resolution": "mediaResolution",
}  # fmt: skip
THINKING: Final = {
    "thinking_budget": "thinkingBudget", "thinking_level": "thinkingLevel", "include_thoughts": "includeThoughts"
}  # fmt: skip
"""As LangChain's and NeMo's configs have them."""
BESIDE: Final = {"safety_settings": "safetySettings", "cached_content": "cachedContent", "labels": "labels"}
"""Options of Google's own that stand beside the generation's."""
READ: Final = frozenset(
    {
        *RENAMED,
        *THINKING,
        *BESIDE,
        "stop",
        "response_format",
        "reasoning_effort",
        "tools",
        "tool_choice",
        "service_tier",
    }
    | {"parallel_tool_calls", "user", "metadata", "store", "modalities", "stream", "stream_options"}
)
"""Options that are sent, or that say nothing to this provider."""
BUDGETED: Final = "gemini-2"
"""Models of this name take a budget of thoughts, all later ones a level."""
BUDGETS: Final = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
LEVELS: Final = {"none": "MINIMAL", "max": "XHIGH"}
MODES: Final = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def generation_config(model: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Raises ``CallError``: an option is not known there; ``param`` names it."""
    for name, value in params.items():
        if value is not None and (name not in READ or (name == "parallel_tool_calls" and not value)):
            raise _unknown(f"the option {name!r} is not known to Google's generateContent", name)
    config = {other: params[name] for name, other in RENAMED.items() if params.get(name) is not None}
    if stop := params.get("stop"):
        config["stopSequences"] = [stop] if isinstance(stop, str) else list(stop)
    thinking = {other: params[name] for name, other in THINKING.items() if params.get(name) is not None}
    if "thinkingConfig" not in config and (effort := params.get("reasoning_effort")):
        thinking = {**_thinking(model, str(effort)), **thinking}
    if thinking:
        config["thinkingConfig"] = {**config.get("thinkingConfig", {}), **thinking}
    return {**config, **_format(params.get("response_format") or {})}


def _thinking(model: str, effort: str) -> dict[str, Any]:
    """Thoughts are shown where somebody asks for them to be made."""
    shown = {"includeThoughts": True} if effort != "none" else {}
    if not model.removeprefix("models/").startswith(BUDGETED):
        return {"thinkingLevel": LEVELS.get(effort, effort.upper()), **shown}
    if effort not in BUDGETS:
        raise _unknown(f"the effort {effort!r} is not one of {', '.join(BUDGETS)}", "reasoning_effort")
    return {"thinkingBudget": BUDGETS[effort], **shown}


def _format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    kind = wanted.get("type", "text")
    if kind == "text":
        return {}
    if kind not in ("json_object", "json_schema"):
        raise _unknown(
            f"a response format of type {kind!r} is not known to Google's generateContent", "response_format"
        )
    schema = (wanted.get("json_schema") or {}).get("schema") if kind == "json_schema" else None
    return {"responseMimeType": "application/json"} | ({"responseJsonSchema": schema} if schema else {})


def options_beside(params: Mapping[str, Any]) -> dict[str, Any]:
    """Options that stand beside the generation's own."""
    found = {other: params[name] for name, other in BESIDE.items() if params.get(name) is not None}
    tier = params.get("service_tier")
    return found | ({"serviceTier": tier} if tier not in (None, "auto", "default") else {})


def tools_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """The functions that may be called, and whether one must be."""
    functions = [tool["function"] for tool in params.get("tools") or () if tool.get("type") == "function"]
    if not functions:
        return {}
    tools: dict[str, Any] = {"tools": [{"functionDeclarations": [_declaration(function) for function in functions]}]}
    choice = params.get("tool_choice")
    if isinstance(choice, Mapping):
        name = (choice.get("function") or {}).get("name", "")
        tools["toolConfig"] = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [name]}}
    elif choice is not None:
        tools["toolConfig"] = {"functionCallingConfig": {"mode": MODES.get(choice, choice)}}
    return tools


def _declaration(function: Mapping[str, Any]) -> dict[str, Any]:
    declared = {"name": function.get("name", ""), "description": function.get("description") or ""}
    schema = function.get("parameters")
    return declared | ({"parametersJsonSchema": schema} if schema else {})


def _unknown(message: str, param: str) -> CallError:
    return CallError(message, code="invalid_request", param=param)
