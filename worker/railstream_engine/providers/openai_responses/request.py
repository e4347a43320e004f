"""The body of a request to the Responses API, from a chat completion's messages and options.

An option that the API has no field for is refused by its name: none is silently without effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from railstream.errors import CallError

SAME: Final = frozenset({
    "temperature", "top_p", "parallel_tool_calls", "metadata", "user", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "service_tier",
})  # fmt: skip
"""Options that both APIs have under one name."""
OWN: Final = frozenset({"reasoning", "text", "truncation", "include", "max_output_tokens", "max_tool_calls"})
"""Options of the Responses API alone: of a model's ``parameters``."""
HARMLESS: Final[Mapping[str, Any]] = {"n": 1, "logprobs": False, "top_logprobs": 0, "modalities": ["text"]}
"""Options that the API does not have, with the value that changes nothing."""
_ECHOED: Final = frozenset(
    {"role", "content", "tool_calls", "refusal", "reasoning", "reasoning_content", "annotations"}
)
"""Fields of an assistant message. A provider sends reasoning and takes none of it back."""

Body = dict[str, Any]


def body_of(model: str, messages: Sequence[Mapping[str, Any]], defaults: Body, params: Mapping[str, Any]) -> Body:
    """``defaults``: the model's own options, which may have any name; ``params``: the call's.

    Raises:
        CallError: ``invalid_request``, with the option or the field of a message that the API does not have.
    """
    body: Body = {"model": model, "input": list(_items(messages)), "background": True, "store": True, "stream": True}
    for name, value in {**defaults, **params}.items():
        if value is not None and not _put(body, name, value):
            if name in params or name not in defaults:
                raise refused(name, f"the option {name!r}")
            body[name] = value
    return body


def _put(body: Body, name: str, value: Any) -> bool:
    """Put an option where the API has it. Returns False for one that it does not have."""
    if name in SAME:
        body[name] = value
    elif name in ("reasoning", "text"):
        body[name] = {**value, **body.get(name, {})}
    elif name in OWN:
        body[name] = value
    elif name in ("max_tokens", "max_completion_tokens"):
        body["max_output_tokens"] = value
    elif name == "reasoning_effort":
        body["reasoning"] = {**body.get("reasoning", {}), "effort": value}
    elif name == "verbosity":
        body["text"] = {**body.get("text", {}), "verbosity": value}
    elif name == "response_format":
        body["text"] = {**body.get("text", {}), "format": _format(value)}
    elif name == "tools":
        body["tools"] = [_tool(tool, number) for number, tool in enumerate(value)]
    elif name == "tool_choice":
        body["tool_choice"] = _tool_choice(value)
    else:
        return (name == "store" and value is True) or (name in HARMLESS and value == HARMLESS[name])
    return True


def _format(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A JSON schema stands in the format itself there."""
    schema = given.get("json_schema")
    return {"type": "json_schema", **schema} if isinstance(schema, Mapping) else given


def _tool(tool: Mapping[str, Any], number: int) -> Body:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, Mapping):
        raise refused("tools", f"the tool {number} of the type {tool.get('type')!r}; functions are taken")
    # The API is strict unless it is told otherwise, and chat completions are not.
    return {"type": "function", "strict": False, **{key: value for key, value in function.items() if value is not None}}


def _tool_choice(given: Any) -> Any:
    if isinstance(given, str):
        return given
    function = given.get("function")
    if given.get("type") == "function" and isinstance(function, Mapping):
        return {"type": "function", "name": function.get("name")}
    allowed = given.get("allowed_tools")
    if given.get("type") == "allowed_tools" and isinstance(allowed, Mapping):
        names = [{"type": "function", "name": (tool.get("function") or {}).get("name")} for tool in allowed["tools"]]
        return {"type": "allowed_tools", "mode": allowed.get("mode", "auto"), "tools": names}
    raise refused("tool_choice", f"the tool choice of the type {given.get('type')!r}")


def _items(messages: Sequence[Mapping[str, Any]]) -> Iterator[Body]:
    for number, message in enumerate(messages):
        match message.get("role"):
            case "system" | "developer" | "user" as role:
                _check(message, number, frozenset({"role", "content"}))
                yield {"role": role, "content": _content(message.get("content"), number)}
            case "assistant":
                yield from _assistant(message, number)
            case "tool":
                _check(message, number, frozenset({"role", "content", "tool_call_id"}))
                output = _content(message.get("content"), number)
                yield {"type": "function_call_output", "call_id": message.get("tool_call_id"), "output": output}
            case role:
                raise refused(f"messages.{number}.role", f"a message of the role {role!r}")


def _assistant(message: Mapping[str, Any], number: int) -> Iterator[Body]:
    _check(message, number, _ECHOED)
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) and content else list(content or ())
    if message.get("refusal"):
        parts.append({"type": "refusal", "refusal": message["refusal"]})
    if parts:
        yield {"role": "assistant", "content": [_output_part(part, number) for part in parts]}
    for call in message.get("tool_calls") or ():
        function = call.get("function")
        if not isinstance(function, Mapping):
            raise refused(f"messages.{number}.tool_calls", f"a tool call of the type {call.get('type')!r}")
        name, arguments = function.get("name"), function.get("arguments") or ""
        yield {"type": "function_call", "call_id": call.get("id"), "name": name, "arguments": arguments}


def _output_part(part: Mapping[str, Any], number: int) -> Body:
    match part.get("type"):
        case "text":
            return {"type": "output_text", "text": part.get("text") or ""}
        case "refusal":
            return {"type": "refusal", "refusal": part.get("refusal") or ""}
        case other:
            raise refused(f"messages.{number}.content", f"a part of the type {other!r} in an assistant's message")


def _content(content: Any, number: int) -> Any:
    if content is None or isinstance(content, str):
        return content or ""
    return [_input_part(part, number) for part in content]


def _input_part(part: Mapping[str, Any], number: int) -> Body:
    match part.get("type"):
        case "text":
            return {"type": "input_text", "text": part.get("text") or ""}
        case "image_url":
            image = part.get("image_url") or {}
            image = {"url": image} if isinstance(image, str) else image
            detail = {"detail": image["detail"]} if image.get("detail") else {}
            return {"type": "input_image", "image_url": image.get("url"), **detail}
        case "file":
            return {"type": "input_file", **(part.get("file") or {})}
        case other:
            raise refused(f"messages.{number}.content", f"a part of the type {other!r}")


def _check(message: Mapping[str, Any], number: int, known: frozenset[str]) -> None:
    for name, value in message.items():
        if name not in known and value is not None:
            raise refused(f"messages.{number}.{name}", f"the field {name!r} of a message")


def refused(param: str, what: str) -> CallError:
    return CallError(
        f"the Responses API does not take {what}; leave it out, or serve the model with `railstream: {{wire: chat}}`",
        code="invalid_request",
        param=param,
    )
