"""A script: what the server answers, how fast, and what goes wrong.

A call's script is the server's own one for the model, then OpenAI's ``seed`` of the request, then a directive in
the last user message, ``@upstream {"words": 100, "rate": 25, "fault": "reset", "at": 10}``, then the header
``X-Upstream-Script`` with the same JSON: each lays its keys over what stands below. A directive passes through
any gateway. A judge reads no directive: what it sees is the judged text, which is not addressed to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from railstream.messages import parts_of
from railstream.testing import text

DIRECTIVE: Final = "@upstream "
HEADER: Final = "x-upstream-script"

Fault = Literal[
    "error_before",  # an error response: `status`, `retry_after`
    "slow_headers",  # the response's headers come after `seconds`
    "error_during",  # an event that says error, in the form of `error_form`, then the end of the body
    "early_end",  # a clean end of the body, without finish_reason and [DONE]
    "no_done",  # all there, but for [DONE]
    "open_end",  # all there, but for [DONE] and the end of the body
    "reset",  # TCP RST
    "hang",  # nothing more, until the client leaves
    "bad_json",  # one event that is not JSON, then on as if nothing were
    "split_utf8",  # each event in two TCP writes, cut inside a multi-byte character where it has one
    "crlf",  # lines end with CR LF
    "cr",  # lines end with CR alone
    "bom",  # a byte order mark before the first line
    "comments",  # comments and unknown fields between the events
    "ids",  # event ids, and comments that end with an empty line: valid, and the openai SDK breaks on it
    "one_huge_delta",  # one delta of `size` characters
]


ErrorForm = Literal[
    "envelope",  # `{"error": {…}}`
    "object",  # `{"object": "error", "message": …}`, as vLLM has sent it
    "event",  # an event of the name `error`
    "field",  # a line `error: {…}`
    "detail",  # `{"detail": …}`, as FastAPI servers send it
]


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    arguments: str | dict[str, Any] = ""
    id: str = ""

    @property
    def json(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else msgspec.json.encode(self.arguments).decode()


class Judge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers ``hit`` when the prompt holds the marker, else ``miss``."""

    marker: str
    hit: str = "Yes"
    miss: str = "No"


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One answer. Exactly one of ``judge``, ``deltas``, ``text``, ``words`` is said, the first that is given."""

    words: int | None = None
    """Deterministic words of ``seed``; 20 when nothing else is asked for."""
    seed: int | str = 0
    text: str | None = None
    piece: int = 0
    """Characters per delta of ``text``; 0: a word."""
    deltas: tuple[str | dict[str, Any], ...] | None = None
    """Texts, or delta objects that are sent as they stand."""
    judge: Judge | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_index: Literal["own", "zero", "none"] = "own"
    """What the fragments of a stream say of their call: its index, always 0, or nothing, as some servers do."""
    reasoning: int = 0
    """Words of reasoning before the answer, in ``delta.<reasoning_field>``."""
    reasoning_field: Literal["reasoning_content", "reasoning"] = "reasoning_content"
    n: int | None = None
    logprobs: bool = False
    continues: bool = False
    """A trailing assistant message that the text begins with is continued. Most models answer it, and so is the default
    here: the whole text comes again."""

    rate: float = 0
    """Deltas per second of one answer; 0: as fast as the client reads."""
    delay_first: float = 0
    """Seconds from the headers to the first delta."""
    hold: int | None = None
    """After so many deltas of a stream, wait until somebody calls ``release``."""
    stamp: bool = False
    """Each delta's text ends with its send time, see `railstream.testing.text.stamps`."""

    usage: Literal["auto", "always", "never", "continuous"] = "auto"
    """auto: as OpenAI, when the request asks. continuous: on every chunk, as vLLM can."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_beside: bool = False
    """Reasoning tokens stand beside the output's in the total, not in them, as Google's and xAI's do."""
    zeros: bool = False
    """One more usage follows the last one, of zeros."""
    finish_reason: str | None = None
    extra: dict[str, Any] = {}
    """Keys of OpenAI's chunks and completions beside the choices, such as ``citations``."""
    choice_extra: dict[str, Any] = {}
    """Keys of a choice that has finished, such as ``content_filter_results``."""

    attach_for: float = 300
    """Seconds after its begin for which a response in the background can be streamed again."""

    fault: Fault | None = None
    error_form: ErrorForm = "envelope"
    at: int = 0
    """Deltas before the fault; 0: headers only; -1, of ``hang`` and ``reset``: before the headers."""
    times: int | None = None
    """Only the first calls of one request meet the fault and the hold (told by ``X-Request-Id``, else the body)."""
    status: int = 500
    retry_after: float | None = None
    error: dict[str, Any] | None = None
    """The error object of ``error_before`` and ``error_during``, as it is sent; else one that fits the status."""
    seconds: float = 1.0
    size: int = 1024 * 1024

    def over(self, given: Mapping[str, Any]) -> Script:
        """This script with the given keys laid over it; ``ValueError`` names a key or value that is wrong."""
        try:
            return msgspec.convert(msgspec.to_builtins(self) | dict(given), Script)
        except msgspec.ValidationError as error:
            raise ValueError(f"not a script for the testing upstream: {error}") from error

    def says(self, judged: str = "", choice: int = 0) -> tuple[str, ...]:
        """The text of the answer in the pieces it is sent in: the oracle. ``judged`` is the prompt of a judge."""
        if self.judge is not None:
            pieces: tuple[str, ...] = (self.judge.hit if self.judge.marker in judged else self.judge.miss,)
        elif self.deltas is not None:
            pieces = tuple(d if isinstance(d, str) else d.get("content") or "" for d in self.deltas)
        elif self.text is not None:
            pieces = text.split(self.text, self.piece)
        else:
            wanted = self.words if self.words is not None else 0 if self.tool_calls else 20
            pieces = text.words(f"{self.seed}/{choice}" if choice else self.seed, wanted)
        if self.fault == "one_huge_delta":
            huge = (" huge" * (self.size // 5 + 1))[: self.size]
            pieces = (*pieces[: self.at], huge, *pieces[self.at :])
        return pieces


def directive(**given: Any) -> str:
    """``directive(words=9, fault="reset", at=4)``: the text that makes a user message carry a script."""
    Script().over(given)
    return DIRECTIVE + json.dumps(given, ensure_ascii=False)


def choose(base: Script, body: Mapping[str, Any], headers: Mapping[str, str]) -> Script:
    """The script of one call; ``ValueError`` when a directive is none."""
    script = base
    if isinstance(body.get("seed"), int):
        script = script.over({"seed": body["seed"]})
    if base.judge is None and (given := _directive(body)):
        script = script.over(given)
    if HEADER in headers:
        script = script.over(_parse(headers[HEADER]))
    return script


def contents(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The texts of messages, content parts included."""
    for message in messages:
        yield from parts_of(message)


def _directive(body: Mapping[str, Any]) -> Mapping[str, Any]:
    last = next((m for m in reversed(body["messages"]) if m.get("role") == "user"), None)
    for content in contents([last] if last else []):
        start = content.rfind(DIRECTIVE)
        if start >= 0:
            return _parse(content[start + len(DIRECTIVE) :])
    return {}


def _parse(raw: str) -> Mapping[str, Any]:
    try:
        given, _ = json.JSONDecoder().raw_decode(raw.lstrip())
    except ValueError as error:
        raise ValueError(f"the directive is not JSON: {error}: {raw[:80]!r}") from error
    if not isinstance(given, dict):
        raise ValueError(f"the directive is not a JSON object: {raw[:80]!r}")
    return given
