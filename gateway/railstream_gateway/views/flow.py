"""A flow's stream: every event by its name, with the operation that it is of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from railstream import events
from railstream.events import Event, OperationFinished, OperationSkipped
from railstream.job import Operation

from railstream_gateway.views.native import NativeView
from railstream_gateway.views.openai.completion import Fold
from railstream_gateway.views.openai.frames import one_line

_choice = msgspec.json.Decoder(dict[str, Any]).decode


class FlowView(NativeView):
    """The native view, but that a chunk is an object: ``{"operation", "index", "delta"}``."""

    def frames(self, batch: Iterable[Event]) -> bytes:
        return b"".join([self._frame(event) for event in batch])

    def _frame(self, event: Event) -> bytes:
        if event.name != events.CHUNK:
            return super().frames((event,))
        return self._told(b"%d-%d" % event.id, _choice(event.choice or b"{}"), event.data)

    def chunk(self, position: bytes, delta: bytes) -> bytes:
        return self._told(position, {}, delta)

    @staticmethod
    def _told(position: bytes, choice: dict[str, Any], delta: bytes) -> bytes:
        told = msgspec.json.encode({**choice, "delta": msgspec.Raw(one_line(delta))})
        return b"id: %b\nevent: chunk\ndata: %b\n\n" % (position, told)


def flow_object(id: str, created: int, fold: Fold, status: str) -> dict[str, Any]:
    """What is known of a flow: each operation's status, text, finish, usage and error."""
    shown = [_operation(fold, told) for told in sorted(fold.operations.values(), key=lambda told: told.index)]
    usage = getattr(fold.terminal, "usage", None)
    body = {"id": id, "object": "flow", "created": created, "status": status, "operations": shown, "usage": usage}
    error = getattr(fold.terminal, "error", None)
    return body | ({"error": error} if error else {})


def _operation(fold: Fold, told: events.Operations) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": told.operation, "index": told.index}
    match told:
        case OperationSkipped(reason=reason):
            return shown | {"status": "skipped", "reason": reason}
        case OperationFinished(finish_reason=finish, usage=usage, error=error):
            ended = {"status": "failed" if error else "finished", "finish_reason": finish, "usage": usage}
            return shown | ended | {"text": fold.text(told.index)} | ({"error": error} if error else {})
        case _:
            status = "running" if fold.terminal is None else "cut"
            return shown | {"status": status, "text": fold.text(told.index)}


def edges_of(operations: Iterable[Operation]) -> dict[str, tuple[str, ...]]:
    return {operation.id: operation.needs for operation in operations}
