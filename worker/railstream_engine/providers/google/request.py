"""A chat completion's request in the words of Google's generateContent."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from railstream.errors import CallError

from railstream_engine.providers.google.options import generation_config, options_beside, tools_of

Message = Mapping[str, Any]
GooglePart = dict[str, Any]

CONTINUE: Final = "Continue exactly where you stopped. Repeat nothing, and say nothing else."
"""Its models answer a turn of the user, so a begun answer is asked to go on in one."""
UNSIGNED: Final = "skip_thought_signature_validator"
"""What Google has one sign calls with that another model made, or whose signatures a client did not keep."""
UNSIGNING: Final = ("gemini-1", "gemini-2")
"""Models of these names sign nothing; all later ones refuse a call of the turn under way that is not signed."""


def body_of(model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> dict[str, Any]:
    """Raises ``CallError``: something has no counterpart there; ``param`` names it."""
    signed = not model.removeprefix("models/").startswith(UNSIGNING)
    said = [message for message in messages if not _is_system(message)]
    body: dict[str, Any] = {"contents": list(_turns(said, signed=signed))}
    system = [part for message in messages if _is_system(message) for part in _parts(message.get("content"))]
    if system:
        body["systemInstruction"] = {"parts": system}
    if config := generation_config(model, params):
        body["generationConfig"] = config
    return {**body, **tools_of(params), **options_beside(params)}


def _is_system(message: Message) -> bool:
    return message.get("role") in ("system", "developer")


def _turns(messages: Sequence[Message], *, signed: bool) -> Iterator[dict[str, Any]]:
    """Turns that alternate: what one side says in a row is one turn, as the answers to calls made together must be."""
    role, parts = "", list[GooglePart]()
    names: dict[str, str] = {}
    for message in messages:
        names |= {call.get("id", ""): _function(call).get("name", "") for call in message.get("tool_calls") or ()}
        speaker, said = _turn(message, names, signed=signed)
        if speaker != role and parts:
            yield {"role": role, "parts": parts}
            parts = []
        role = speaker
        parts = [*parts, *said]
    if parts:
        yield {"role": role, "parts": parts}
    if role == "model":
        yield {"role": "user", "parts": [{"text": CONTINUE}]}


def _turn(message: Message, names: Mapping[str, str], *, signed: bool) -> tuple[str, list[GooglePart]]:
    """``names``: of the functions that were called, by the call's id. ``signed``: the first call of a turn must be."""
    if message.get("role") == "tool":
        id = str(message.get("tool_call_id", ""))
        answer = {"id": id, "name": names.get(id) or message.get("name") or id, "response": _response(message)}
        return "user", [{"functionResponse": answer}]
    said = _parts(message.get("content"))
    if message.get("role") != "assistant":
        return "user", said
    if said and (signature := _signature(message)):
        said[-1]["thoughtSignature"] = signature
    calls = [_function_call(call) for call in message.get("tool_calls") or ()]
    if signed and calls:
        calls[0].setdefault("thoughtSignature", UNSIGNED)
    return "model", [*said, *calls]


def _response(message: Message) -> dict[str, Any]:
    """What a function gave, as the object that the API wants."""
    told = message.get("content")
    text = told if isinstance(told, str) else "".join(str(part.get("text") or "") for part in told or ())
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    return found if isinstance(found, dict) else {"output": found}


def _function(call: Any) -> Mapping[str, Any]:
    return call.get("function") or {}


def _function_call(call: Any) -> GooglePart:
    function = _function(call)
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except ValueError as error:
        raise _unknown(f"the arguments of the tool call {call.get('id')!r} are not JSON", "messages") from error
    part: GooglePart = {"functionCall": {"name": function.get("name", ""), "args": arguments}}
    if call.get("id"):
        part["functionCall"]["id"] = call["id"]
    if signature := _signature(call):
        part["thoughtSignature"] = signature
    return part


def _signature(said: Mapping[str, Any]) -> str:
    """What the model signed a call or a text with, where the client gave it back."""
    google = (said.get("extra_content") or {}).get("google") or {}
    return str(google.get("thought_signature") or "")


def _parts(content: Any) -> list[GooglePart]:
    if isinstance(content, str):
        return [{"text": content}] if content else []
    return [_part(part) for part in content or ()]


def _part(part: Any) -> GooglePart:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        return {"text": part.get("text", "")}
    if kind == "image_url":
        return _media(str((part.get("image_url") or {}).get("url", "")))
    if kind == "input_audio":
        audio = part.get("input_audio") or {}
        return {"inlineData": {"mimeType": f"audio/{audio.get('format', 'wav')}", "data": audio.get("data", "")}}
    raise _unknown(f"a content part of type {kind!r} is not known to Google's generateContent", "messages")


def _media(url: str) -> GooglePart:
    if not url.startswith("data:"):
        kind, _ = mimetypes.guess_type(url.partition("?")[0])
        return {"fileData": {"fileUri": url} | ({"mimeType": kind} if kind else {})}
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    return {"inlineData": {"mimeType": kind, "data": data}}


def _unknown(message: str, param: str) -> CallError:
    return CallError(message, code="invalid_request", param=param)
