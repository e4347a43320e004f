"""Fold a stream's events into one ChatCompletion, as OpenAI answers without streaming."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from railstream import events
from railstream.choice import Choice
from railstream.deltas import decode_delta
from railstream.events import (
    Blocked,
    Event,
    Finished,
    OperationFinished,
    OperationSkipped,
    OperationStarted,
    Started,
)

from railstream_gateway.views.openai.frames import violation


class Fold:
    """Add all events of a stream; then `completion` of the terminal one."""

    def __init__(self, shared: Started) -> None:
        """``shared`` stands for the stream's first event until that is seen."""
        self._shared = shared
        self._choices: dict[int, Choice] = {}
        self.operations: dict[str, events.Operations] = {}
        """The latest that is known of each, where there are several."""
        self.terminal: events.Payload | None = None

    def add(self, batch: Iterable[Event]) -> None:
        for event in batch:
            if event.name == events.CHUNK:
                self._chunk(event)
            elif event.name == events.STARTED:
                shared = events.decode(event)
                assert isinstance(shared, Started)
                self._shared = shared
            elif event.name in events.OPERATIONS:
                told = events.decode(event)
                assert isinstance(told, OperationStarted | OperationFinished | OperationSkipped)
                self.operations[told.operation] = told
            elif event.terminal:
                self.terminal = events.decode(event)

    def _chunk(self, event: Event) -> None:
        choice: dict[str, Any] = decode_delta(event.choice) if event.choice else {}
        self._choice(choice.get("index", 0)).add(decode_delta(event.data), choice.get("logprobs"))

    def _choice(self, index: int) -> Choice:
        return self._choices.setdefault(index, Choice())

    def completion(self, *, with_log: bool) -> dict[str, Any]:
        """The answer to a stream that ended ``finished`` or ``blocked``."""
        ended = self.terminal
        assert isinstance(ended, Finished | Blocked)
        body = {
            "id": self._shared.id,
            "object": "chat.completion",
            "created": self._shared.created,
            "model": self._shared.model,
            "choices": self._finished(ended) if isinstance(ended, Finished) else _refused(ended),
        }
        if isinstance(ended, Finished):
            body |= ended.extra
        if ended.usage is not None:
            body["usage"] = ended.usage
        told = self._guardrails(ended, with_log=with_log)
        return body | ({"guardrails": told} if told else {})

    def text(self, index: int) -> str:
        """What one choice has said so far."""
        return self._choice(index).message()["content"] or ""

    def _finished(self, ended: Finished) -> list[dict[str, Any]]:
        choices = self._plain(ended)
        for told in self.operations.values():
            if isinstance(told, OperationFinished):
                more = {"model": told.operation, "usage": told.usage, "error": told.error}
                choices[told.index] |= {name: value for name, value in more.items() if value is not None}
        return choices

    def _plain(self, ended: Finished) -> list[dict[str, Any]]:
        reasons = ended.finish_reasons or ("stop",)
        beside = dict(enumerate(ended.choice_extra))
        return [
            {
                "index": index,
                "message": self._choice(index).message(),
                "logprobs": self._choice(index).logprobs(),
                "finish_reason": reason,
                **beside.get(index, {}),
            }
            for index, reason in enumerate(reasons)
        ]

    def _guardrails(self, ended: Finished | Blocked, *, with_log: bool) -> dict[str, Any]:
        told: dict[str, Any] = {}
        if isinstance(ended, Blocked):
            told |= violation(ended, self._shared.configs)
        if with_log and ended.log is not None:
            told["log"] = ended.log
        return {"config_ids": list(self._shared.configs)} | told if told else {}


def _refused(ended: Blocked) -> list[dict[str, Any]]:
    """A refusal in words that a person reads; where a program reads the answer, in the field that is meant for one."""
    filtered = ended.form == "content_filter"
    content = None if ended.structured else ended.refusal
    refusal = ended.refusal if ended.structured and not filtered else None
    message = {"role": "assistant", "content": content, "refusal": refusal}
    reason = "content_filter" if filtered else "stop"
    return [
        {"index": index, "message": message, "logprobs": None, "finish_reason": reason}
        for index in range(ended.choices)
    ]
