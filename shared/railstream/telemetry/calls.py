"""Record LLM calls: one CLIENT span and one set of metrics each, the rails' own calls included."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.trace import SpanKind, Tracer
from opentelemetry.util.types import AttributeValue

from railstream.events import Usage
from railstream.telemetry import content, names
from railstream.telemetry.call_metrics import CallMetrics
from railstream.telemetry.labels import Bounded
from railstream.telemetry.recorded_call import RecordedCall


class CallRecorder:
    """Starts calls. ``models`` are the configured names: any other is labelled ``_OTHER`` in metrics."""

    def __init__(
        self,
        tracer: Tracer,
        meter: Meter,
        *,
        models: Iterable[str] = (),
        latest_only: bool = False,
        captures_content: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._tracer = tracer
        self._model_label = Bounded(models)
        self._task_label = Bounded()
        self._response_label = Bounded()
        self._open: set[RecordedCall] = set()
        self.metrics = CallMetrics(meter, latest_only=latest_only)
        self.captures_content = captures_content
        self.clock = clock

    def start(
        self,
        *,
        model: str,
        provider: str,
        task: str = "general",
        call: str = "",
        address: str = "",
        port: int = 0,
        params: Mapping[str, Any] | None = None,
        messages: Sequence[Mapping[str, Any]] = (),
        conversation: str = "",
        parent_context: Context | None = None,
    ) -> RecordedCall:
        """Begin a call now. Without ``parent_context`` the ambient one is the parent.

        ``call`` is the call's id in its `Usage`; ``conversation`` is given only when there is a real one.
        """
        shared: dict[str, AttributeValue] = {
            names.OPERATION: names.CHAT,
            names.PROVIDER: names.PROVIDERS.get(provider, provider),
            names.TASK: task,
        }
        if address:
            shared[names.SERVER_ADDRESS] = address
            if port:
                shared[names.SERVER_PORT] = port
        on_span = {**shared, names.REQUEST_MODEL: model, **_request_attributes(params or {})}
        if conversation:
            on_span[names.CONVERSATION_ID] = conversation
        if self.captures_content and messages:
            on_span[names.INPUT_MESSAGES] = content.input_messages(messages)
        span = self._tracer.start_span(f"chat {model}", parent_context, SpanKind.CLIENT, on_span)
        labels = {**shared, names.REQUEST_MODEL: self._model_label(model), names.TASK: self._task_label(task)}
        known = Usage(call=call, task=task, model=model, provider=provider)
        recorded = RecordedCall(self, span, labels, known, messages)
        self._open.add(recorded)
        return recorded

    def generating(self) -> int:
        """Answers that are generated now; calls of rails are not among them. It may be called from another thread."""
        return sum(call.is_answer for call in list(self._open))

    def abandon(self) -> None:
        """End every call that is still open, as cancelled: the process stops."""
        for call in list(self._open):
            call.cancel()

    def forget(self, call: RecordedCall, response_model: str) -> str:
        """The call has ended; returns the label of the model that answered."""
        self._open.discard(call)
        return self._response_label(response_model) if response_model else ""


def _request_attributes(params: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """The request options that the convention names, if they have the type that it names."""
    found: dict[str, AttributeValue] = {names.REQUEST_STREAM: True}
    limit = params.get("max_completion_tokens", params.get("max_tokens"))
    if isinstance(limit, int):
        found[names.REQUEST_MAX_TOKENS] = limit
    for option, name in (("temperature", names.REQUEST_TEMPERATURE), ("top_p", names.REQUEST_TOP_P)):
        value = params.get(option)
        if isinstance(value, int | float):
            found[name] = float(value)
    stop = params.get("stop")
    if isinstance(stop, str):
        found[names.REQUEST_STOP_SEQUENCES] = [stop]
    elif isinstance(stop, list) and all(isinstance(one, str) for one in stop):
        found[names.REQUEST_STOP_SEQUENCES] = stop
    return found
