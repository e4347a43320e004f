"""What Google's Gemini API is asked, read as a chat completion's request; what it refuses with 400 is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from railstream.testing.http import Request

FIELDS: Final = frozenset(
    {"contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "generationConfig", "cachedContent"}
    | {"serviceTier", "store", "labels"}
)
CONFIG_FIELDS: Final = frozenset(
    {"temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "stopSequences", "presencePenalty"}
    | {"frequencyPenalty", "seed", "responseMimeType", "responseSchema", "responseJsonSchema", "responseLogprobs"}
    | {"logprobs", "thinkingConfig", "responseModalities", "speechConfig", "mediaResolution", "imageConfig"}
)
STREAMS: Final = {"generateContent": False, "streamGenerateContent": True}
STRICT: Final = "gemini-3"
"""Models of this name demand the signature of each function call of the current turn."""


def chat_body(request: Request) -> dict[str, Any]:
    """A chat completion's body, with the real one under ``request``. Raises ``ValueError``: the API refuses it."""
    model, _, method = request.path.rpartition("/models/")[2].partition(":")
    if method not in STREAMS:
        raise ValueError(f"this server has no method {method!r}")
    if STREAMS[method] and request.query.get("alt") != "sse":
        raise ValueError("this server streams server-sent events only: alt=sse")
    try:
        given = msgspec.json.decode(request.body, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ValueError(f"Invalid JSON payload received. {error}") from error
    config = given.get("generationConfig") or {}
    _check(model, given, config)
    system = [{"role": "system", "content": text} for text in _texts(given.get("systemInstruction") or {})]
    limits = {
        "max_tokens": config.get("maxOutputTokens"),
        "n": config.get("candidateCount"),
        "seed": config.get("seed"),
    }
    messages = [*system, *(message for content in given["contents"] for message in _messages(content))]
    chat = {name: value for name, value in limits.items() if value is not None}
    return {"model": model, "stream": STREAMS[method], "messages": messages, **chat, "request": given}


def _check(model: str, given: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    for unknown, place in ((set(given) - FIELDS, ""), (set(config) - CONFIG_FIELDS, " at 'generation_config'")):
        if unknown:
            raise ValueError(f'Invalid JSON payload received. Unknown name "{min(unknown)}"{place}: Cannot find field.')
    contents = given.get("contents")
    if not isinstance(contents, list) or not contents:
        raise ValueError("* GenerateContentRequest.contents: contents is not specified")
    for content in contents:
        if content.get("role", "user") not in ("user", "model"):
            raise ValueError("Please use a valid role: user, model.")
        if not content.get("parts"):
            raise ValueError("Unable to submit request because it must have a text parameter.")
    if model.startswith(STRICT):
        _check_signatures(contents)


def _check_signatures(contents: list[dict[str, Any]]) -> None:
    """Of the turn that is under way: what stands after the last words of a user."""
    asked = [number for number, content in enumerate(contents) if content.get("role") != "model" and _texts(content)]
    for content in contents[asked[-1] + 1 if asked else 0 :]:
        calls = [part for part in content["parts"] if "functionCall" in part]
        if calls and not calls[0].get("thoughtSignature"):
            raise ValueError("Function call is missing a thought_signature in functionCall parts.")


def _texts(content: Mapping[str, Any]) -> list[str]:
    return [part["text"] for part in content.get("parts") or () if "text" in part]


def _messages(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for part in content["parts"]:
        if answer := part.get("functionResponse"):
            told = msgspec.json.encode(answer.get("response")).decode()
            yield {"role": "tool", "tool_call_id": answer.get("id", ""), "content": told}
    role = "assistant" if content.get("role") == "model" else "user"
    if texts := _texts(content):
        yield {"role": role, "content": "".join(texts)}
