"""One choice of an answer, folded from its deltas into a message."""

from __future__ import annotations

from typing import Any

from railstream.deltas import well_formed


class Choice:
    """One choice, as its deltas say it."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._tools: dict[int, dict[str, Any]] = {}
        self._others: dict[str, Any] = {}
        self._logprobs: dict[str, list[Any]] = {}

    def add(self, delta: dict[str, Any], logprobs: dict[str, Any] | None) -> None:
        for name, value in delta.items():
            if name == "tool_calls":
                for position, fragment in enumerate(value or ()):
                    self._add_tool(fragment, position)
            elif name == "role" or value is None:
                continue
            elif name == "function_call" and isinstance(value, dict):
                _join(self._others.setdefault(name, {}), value)
            elif isinstance(value, str):
                self._texts.setdefault(name, []).append(value)
            elif isinstance(value, list):
                self._others[name] = [*self._others.get(name, ()), *value]
            else:
                self._others[name] = value
        for name, tokens in (logprobs or {}).items():
            self._logprobs.setdefault(name, []).extend(tokens or ())

    def _add_tool(self, fragment: dict[str, Any], position: int) -> None:
        index = fragment.get("index")
        tool = self._tools.setdefault(index if isinstance(index, int) else position, {})
        for name, value in fragment.items():
            if name == "index" or value is None:
                continue
            if isinstance(value, dict):
                _join(tool.setdefault(name, {}), value)
            elif value or name not in tool:
                tool[name] = value

    def message(self) -> dict[str, Any]:
        texts = {name: "".join(pieces) for name, pieces in self._texts.items()}
        message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None} | texts | self._others
        if self._tools:
            message["tool_calls"] = [self._tools[index] for index in sorted(self._tools)]
            message["content"] = message["content"] or None
        elif message["content"] is None and message["refusal"] is None:
            message["content"] = ""
        joined: dict[str, Any] = well_formed(message)
        return joined

    def logprobs(self) -> dict[str, list[Any] | None] | None:
        if not self._logprobs:
            return None
        return {name: well_formed(self._logprobs.get(name)) or None for name in ("content", "refusal")}


def _join(called: dict[str, Any], more: dict[str, Any]) -> None:
    """Add a fragment of a call to what came of it before."""
    for key, piece in more.items():
        joined = isinstance(piece, str) and isinstance(called.get(key), str)
        called[key] = called[key] + piece if joined else piece
