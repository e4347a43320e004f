"""Read a request: bytes in, one checked `ChatRequest` out, or an error that names the field.

The JSON is decoded once; what was sent is checked against its schema and travels on as it was, unknown keys of
messages included.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, TypeVar

import msgspec
from railstream.errors import InvalidRequestError
from railstream.nesting import MOST_NESTED, nested_deeper

from railstream_gateway.accept.chat_body import (
    KNOWN,
    PASSED,
    REFUSED,
    ChatBody,
    ChecksBody,
    Guardrails,
    LlmParams,
)
from railstream_gateway.accept.dialects import as_openai_writes

S = TypeVar("S", bound=msgspec.Struct)

_PLACE: Final = re.compile(r" - at `\$\.?(.*)`$")
_QUOTED: Final = re.compile(r"`([^`]*)`")
BOM: Final = b"\xef\xbb\xbf"
"""A UTF-8 byte order mark, which a reader may ignore (RFC 8259, section 8.1)."""
_decode = msgspec.json.Decoder().decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """``kind`` is ``chat`` or ``checks``; ``params`` go to the provider; ``options`` are NeMo's, as they were sent."""

    kind: str
    model: str | None
    messages: list[dict[str, Any]]
    params: dict[str, Any]
    stream: bool
    include_usage: bool
    config_ids: tuple[str, ...]
    thread_id: str
    session: str
    branch: str
    models: tuple[str, ...]
    context: dict[str, Any]
    options: dict[str, Any]
    sent: dict[str, Any]
    provider_options: frozenset[str] = frozenset()
    """Those of ``params`` that OpenAI's request has not: the model that serves must pass them."""

    def fingerprint(self) -> str:
        """The same for every body that means the same, however it is spaced. It costs a pass over all of it."""
        return sha256(_encode_sorted(self.sent)).hexdigest()

    @property
    def wants_log(self) -> bool:
        return any((self.options.get("log") or {}).values())


def read_chat(body: bytes) -> ChatRequest:
    """Raises `InvalidRequestError` with the field in ``param``."""
    sent = as_openai_writes(_object(body))
    checked = _check(sent, ChatBody)
    if checked.stream_options is not None and not checked.stream:
        raise InvalidRequestError("stream_options is only allowed with stream: true", param="stream_options")
    given = {name for name, value in sent.items() if value is not None}
    for name in sorted(given & REFUSED.keys()):
        raise _unknown(name, name, ChatBody)
    others = frozenset(given - KNOWN)
    params = {name: sent[name] for name in sent if name in given & PASSED or name in others}
    include_usage = checked.stream_options is not None and bool(checked.stream_options.include_usage)
    read = _request("chat", sent, checked, params, stream=bool(checked.stream), include_usage=include_usage)
    return replace(read, provider_options=others)


def read_checks(body: bytes) -> ChatRequest:
    """Raises `InvalidRequestError` with the field in ``param``."""
    sent = _object(body)
    return _request("checks", sent, _check(sent, ChecksBody), {}, stream=False, include_usage=False)


def read_as(body: bytes, schema: type[S]) -> S:
    """A body of another shape. Raises `InvalidRequestError` with the field in ``param``."""
    return _check(_object(body), schema)


def _object(body: bytes) -> dict[str, Any]:
    if nested_deeper(body, MOST_NESTED):
        message = f"the body is nested deeper than {MOST_NESTED} levels, the most that are read"
        raise InvalidRequestError(message, code="malformed_json")
    try:
        sent = _decode(body.removeprefix(BOM))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the body is not JSON: {error}", code="malformed_json") from error
    if not isinstance(sent, dict):
        raise InvalidRequestError(f"the body must be a JSON object, not {type(sent).__name__}", code="malformed_json")
    return sent


def _check(sent: dict[str, Any], schema: type[S], inside: str = "") -> S:
    """``inside``: the place of what was sent, with a dot behind it, where that is a part of the body."""
    try:
        return msgspec.convert(sent, schema)
    except msgspec.ValidationError as error:
        raise _explain(str(error), inside, schema) from error
    except RecursionError as error:
        raise InvalidRequestError("the body is nested too deeply", code="malformed_json") from error


def _explain(message: str, inside: str, schema: type[msgspec.Struct]) -> InvalidRequestError:
    found = _PLACE.search(message)
    within = found[1] if found else ""
    place = f"{inside}{within}" if within else inside.removesuffix(".")
    problem = message[: found.start()] if found else message
    named = _QUOTED.search(problem)
    name = named[1] if named else ""
    if "unknown field" in problem:
        return _unknown(f"{place}.{name}" if place else name, name, schema if not within else Guardrails)
    if "missing required field" in problem:
        place = f"{place}.{name}" if place else name
        return InvalidRequestError(f"{place} is required", param=place)
    return InvalidRequestError(f"{place or 'body'}: {problem}", param=place or None)


def _unknown(place: str, name: str, schema: type[msgspec.Struct]) -> InvalidRequestError:
    if name in REFUSED:
        return InvalidRequestError(f"{place} is not supported: {REFUSED[name]}", param=place, code="unsupported")
    near = difflib.get_close_matches(name, schema.__struct_fields__, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InvalidRequestError(f"{place[:200]!r} is not a known option{hint}", param=place[:200], code="unknown_option")


def _request(
    kind: str,
    sent: dict[str, Any],
    checked: ChatBody | ChecksBody,
    params: dict[str, Any],
    *,
    stream: bool,
    include_usage: bool,
) -> ChatRequest:
    nested = sent.get("guardrails") or {}
    ours = {name: _one_of(name, sent, nested) for name in ("thread_id", "context", "options")}
    own = sent.get("railstream") or {}
    if own.get("session") and ours["thread_id"]:
        raise InvalidRequestError("a thread_id is a session of its own: send one of them", param="railstream.session")
    if own.get("branch") and not own.get("session"):
        raise InvalidRequestError("a branch is one of a session: name that too", param="railstream.branch")
    options = ours["options"] or {}
    params = params | _llm_params(options)
    if params.get("top_logprobs") and not params.get("logprobs"):
        raise InvalidRequestError("top_logprobs needs logprobs: true", param="top_logprobs")
    return ChatRequest(
        kind=kind,
        model=checked.model,
        messages=sent["messages"],
        params=params,
        stream=stream,
        include_usage=include_usage,
        config_ids=_config_ids(checked),
        thread_id=ours["thread_id"] or "",
        session=own.get("session") or "",
        branch=own.get("branch") or "",
        models=_models(own.get("models"), {**sent, **params}, kept=bool(own.get("session") or ours["thread_id"])),
        context=ours["context"] or {},
        options=options,
        sent=sent,
    )


def _llm_params(options: Mapping[str, Any]) -> dict[str, Any]:
    given = options.get("llm_params") or {}
    _check(given, LlmParams, inside="options.llm_params.")
    return {name: value for name, value in given.items() if value is not None}


def _models(names: list[str] | None, sent: Mapping[str, Any], *, kept: bool) -> tuple[str, ...]:
    """The models that answer at once; none when one does. ``kept``: the answer belongs to a branch."""
    if not names:
        return ()
    place = "railstream.models"
    if len(set(names)) < len(names):
        raise InvalidRequestError("each model is named once", param=place)
    for other in ("n", "model"):
        if sent.get(other) not in (None, 1):
            raise InvalidRequestError(f"{other} cannot be combined with {place}", param=other)
    if kept:
        raise InvalidRequestError("one branch takes one answer: fork it for each model", param=place)
    return tuple(names)


def _one_of(name: str, sent: Mapping[str, Any], nested: Mapping[str, Any]) -> Any:
    outer, inner = sent.get(name), nested.get(name)
    if outer is not None and inner is not None and outer != inner:
        raise InvalidRequestError(f"{name} and guardrails.{name} differ: send one", param=name)
    return inner if outer is None else outer


def _config_ids(checked: ChatBody | ChecksBody) -> tuple[str, ...]:
    given: list[tuple[str, tuple[str, ...]]] = []
    for prefix, holder in (("", checked), ("guardrails.", checked.guardrails)):
        if holder is not None and holder.config_id is not None:
            given.append((f"{prefix}config_id", (holder.config_id,)))
        if holder is not None and holder.config_ids is not None:
            given.append((f"{prefix}config_ids", tuple(holder.config_ids)))
    if not given:
        return ()
    for name, ids in given[1:]:
        if ids != given[0][1]:
            raise InvalidRequestError(f"{given[0][0]} and {name} differ: send one", param=name)
    return given[0][1]
