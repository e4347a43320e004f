"""A chat completion's request in the words of Anthropic's Messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from railstream.errors import CallError

Message = Mapping[str, Any]
Block = dict[str, Any]

MAX_TOKENS: Final = 4096
"""Where neither the request nor the model's parameters say how long an answer may be; the API must be told."""
CONTINUE: Final = "Continue exactly where you stopped. Repeat nothing, and say nothing else."
"""Its newer models refuse to go on with a trailing assistant message, so they are asked to."""
SAME: Final = (
    "metadata", "thinking", "output_config", "service_tier", "cache_control", "container", "inference_geo", "speed",
    "temperature", "top_p", "top_k",
)  # fmt: skip
READ: Final = frozenset(
    {*SAME, "max_tokens", "max_completion_tokens", "stop", "user", "tools", "tool_choice", "parallel_tool_calls"}
    | {"reasoning_effort", "stream", "stream_options", "store", "n"}
)
"""Options that are sent, or that say nothing to this provider."""


def body_of(model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> dict[str, Any]:
    """Raises ``CallError``: something has no counterpart there; ``param`` names it."""
    for name in params:
        if name not in READ and params[name] is not None:
            raise _unknown(f"the option {name!r} is not known to Anthropic's Messages", name)
    limit = params.get("max_completion_tokens") or params.get("max_tokens") or MAX_TOKENS
    body: dict[str, Any] = {"model": model, "max_tokens": limit, "stream": True}
    system = [block for message in messages if _is_system(message) for block in _blocks(message.get("content"))]
    if system:
        body["system"] = system
    body["messages"] = list(_turns([message for message in messages if not _is_system(message)]))
    body.update({name: params[name] for name in SAME if params.get(name) is not None})
    if stop := params.get("stop"):
        body["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    if (effort := params.get("reasoning_effort")) and effort != "none" and "output_config" not in body:
        body["output_config"] = {"effort": effort}
    if params.get("user") and "metadata" not in body:
        body["metadata"] = {"user_id": params["user"]}
    body.update(_tools(params))
    return body


def _is_system(message: Message) -> bool:
    return message.get("role") in ("system", "developer")


def _turns(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    """Turns that alternate: what one side says in a row is one turn."""
    role, blocks = "", list[Block]()
    for message in messages:
        speaker, said = _turn(message)
        if speaker != role and blocks:
            yield {"role": role, "content": blocks}
            blocks = []
        role = speaker
        blocks = [*blocks, *said]
    if blocks:
        yield {"role": role, "content": blocks}
    if role == "assistant":
        yield {"role": "user", "content": CONTINUE}


def _turn(message: Message) -> tuple[str, list[Block]]:
    if message.get("role") == "tool":
        result = {"type": "tool_result", "tool_use_id": message.get("tool_call_id", "")}
        return "user", [{**result, "content": _blocks(message.get("content"))}]
    said = _blocks(message.get("content"))
    if message.get("role") == "assistant":
        return "assistant", [*said, *(_tool_use(call) for call in message.get("tool_calls") or ())]
    return "user", said


def _blocks(content: Any) -> list[Block]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [_block(part) for part in content or ()]


def _block(part: Any) -> Block:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        return {"type": "text", "text": part.get("text", "")}
    if kind == "image_url":
        return {"type": "image", "source": _image(str((part.get("image_url") or {}).get("url", "")))}
    raise _unknown(f"a content part of type {kind!r} is not known to Anthropic's Messages", "messages")


def _image(url: str) -> Block:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return {"type": "base64", "media_type": kind, "data": data}


def _tool_use(call: Any) -> Block:
    function = call.get("function") or {}
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except ValueError as error:
        raise _unknown(f"the arguments of the tool call {call.get('id')!r} are not JSON", "messages") from error
    return {"type": "tool_use", "id": call.get("id", ""), "name": function.get("name", ""), "input": arguments}


def _tools(params: Mapping[str, Any]) -> dict[str, Any]:
    functions = [tool["function"] for tool in params.get("tools") or () if tool.get("type") == "function"]
    if not functions:
        return {}
    tools: dict[str, Any] = {"tools": [_tool(function) for function in functions]}
    choice = params.get("tool_choice")
    if isinstance(choice, Mapping):
        tools["tool_choice"] = {"type": "tool", "name": (choice.get("function") or {}).get("name", "")}
    elif choice is not None:
        tools["tool_choice"] = {"type": {"required": "any"}.get(choice, choice)}
    if params.get("parallel_tool_calls") is False:
        tools["tool_choice"] = {**tools.get("tool_choice", {"type": "auto"}), "disable_parallel_tool_use": True}
    return tools


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    tool = {"name": function.get("name", ""), "input_schema": function.get("parameters") or {"type": "object"}}
    return {**tool, "description": function["description"]} if function.get("description") else tool


def _unknown(message: str, param: str) -> CallError:
    return CallError(message, code="invalid_request", param=param)
