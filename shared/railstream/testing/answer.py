"""An answer: the deltas that a script and a request come to, before any of them is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import msgspec

from railstream.deltas import decode_delta, well_formed
from railstream.testing import text
from railstream.testing.script import Script, contents

ARGUMENT_PIECE = 8


class Delta(NamedTuple):
    """One delta of one choice: text of a field, or (``field`` empty) an object that is sent as it stands."""

    choice: int
    field: str
    text: str
    raw: Mapping[str, Any] = {}

    def encode(self, *, stamped: bool = False) -> bytes:
        if not self.field:
            try:
                return msgspec.json.encode(self.raw)
            except UnicodeEncodeError:  # half a surrogate pair, which JSON may hold when it is escaped
                return json.dumps(self.raw).encode()
        said = self.text + text.stamp() if stamped else self.text
        return b'{"%b":%b}' % (self.field.encode(), msgspec.json.encode(said))


class Answer(NamedTuple):
    deltas: Sequence[Delta]
    finish_reasons: Sequence[str]
    """By choice."""
    prompt_tokens: int
    continued: int
    """Characters of the prompt's last message that are continued."""

    def usage(self, script: Script, written: int) -> dict[str, Any]:
        """OpenAI's usage object once so many deltas were written."""
        given = script.prompt_tokens
        prompt = self.prompt_tokens if given is None else given
        completion = written if script.completion_tokens is None else script.completion_tokens
        reasoning = sum(delta.field == script.reasoning_field for delta in self.deltas[:written])
        if script.reasoning_beside and script.completion_tokens is None:
            completion -= reasoning
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion + (reasoning if script.reasoning_beside else 0),
            "prompt_tokens_details": {"cached_tokens": script.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }

    def message(self, choice: int, *, stamped: bool) -> dict[str, Any]:
        """The deltas of a choice, put together as a non-streaming answer has them."""
        whole: dict[str, Any] = {"role": "assistant", "content": None}
        for delta in self.deltas:
            if delta.choice == choice:
                _merge(whole, decode_delta(delta.encode(stamped=stamped)))
        joined: dict[str, Any] = well_formed(whole)
        return joined


def _merge(whole: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for key, value in delta.items():
        if key == "tool_calls":
            _merge_tools(whole.setdefault(key, []), value)
        elif isinstance(value, str) and key != "role":
            whole[key] = (whole.get(key) or "") + value
        elif value is not None:
            whole[key] = value


def _merge_tools(calls: list[dict[str, Any]], fragments: Sequence[Mapping[str, Any]]) -> None:
    for fragment in fragments:
        while len(calls) <= fragment["index"]:
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call, function = calls[fragment["index"]], fragment.get("function", {})
        call["id"] = call["id"] or fragment.get("id", "")
        call["function"]["name"] += function.get("name", "")
        call["function"]["arguments"] += function.get("arguments", "")


def compose(script: Script, body: Mapping[str, Any]) -> Answer:
    """What a request is answered, from its script, ``n``, ``max_tokens`` and a trailing assistant message."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    prompt_tokens = text.count(contents(body["messages"]))
    choices, reasons, continued = [], [], 0
    for choice in range(script.n or body.get("n") or 1):
        deltas, continued = _choice(script, body, choice)
        cut = limit is not None and len(deltas) > limit
        choices.append(deltas[:limit] if cut else deltas)
        reasons.append("length" if cut else script.finish_reason or ("tool_calls" if script.tool_calls else "stop"))
    turns = chain.from_iterable(zip_longest(*choices))
    return Answer([delta for delta in turns if delta is not None], reasons, prompt_tokens, continued)


def _choice(script: Script, body: Mapping[str, Any], choice: int) -> tuple[list[Delta], int]:
    """One choice's deltas, and how many characters of the prompt they continue."""
    tools = _tools(script, choice)
    reasoning = [
        Delta(choice, script.reasoning_field, piece)
        for piece in text.words(f"{script.seed}/reasoning", script.reasoning)
    ]
    if script.deltas is not None and script.judge is None:
        return [*reasoning, *(_listed(choice, delta) for delta in script.deltas), *tools], 0
    judged = "\n".join(contents(body["messages"])) if script.judge else ""
    pieces = script.says(judged, choice)
    prefix = _prefix(script, body)
    left = text.after(pieces, prefix) if prefix else None
    if left is None:
        return [*reasoning, *(Delta(choice, "content", piece) for piece in pieces), *tools], 0
    return [*(Delta(choice, "content", piece) for piece in left), *tools], len(prefix)


def _listed(choice: int, delta: str | Mapping[str, Any]) -> Delta:
    return Delta(choice, "content", delta) if isinstance(delta, str) else Delta(choice, "", "", delta)


def _prefix(script: Script, body: Mapping[str, Any]) -> str:
    last = body["messages"][-1]
    if not script.continues or last.get("role") != "assistant" or last.get("tool_calls"):
        return ""
    said = "".join(contents([last]))
    return text.unstamped(said) if script.stamp else said


def _tools(script: Script, choice: int) -> list[Delta]:
    deltas = []
    for index, call in enumerate(script.tool_calls):
        function: dict[str, Any] = {"name": call.name, "arguments": ""}
        head = {"index": index, "id": call.id or f"call_{choice}_{index}", "type": "function", "function": function}
        deltas.append(Delta(choice, "", "", {"tool_calls": [head]}))
        for piece in text.split(call.json, ARGUMENT_PIECE):
            fragment = {"index": index, "function": {"arguments": piece}}
            deltas.append(Delta(choice, "", "", {"tool_calls": [fragment]}))
    return deltas
